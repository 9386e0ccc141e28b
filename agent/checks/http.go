package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"lictor/agent/script"
	"lictor/rpc/wire"
)

const (
	// maxBody is how much of an answer is read: the status is known before, and
	// only the newest bytes are kept.
	maxBody      = 1 << 20
	maxRedirects = 10
	userAgent    = "Consul Health Check"
)

// newHTTP passes for a 2xx answer, warns for 429, and is critical for the rest.
func newHTTP(d *Definition, o Options) (Check, error) {
	target, err := url.Parse(d.HTTP)
	if err != nil {
		return nil, errors.New("http must be a URL")
	}
	method := strings.ToUpper(d.Method)
	if method == "" {
		method = http.MethodGet
	}
	what := "HTTP " + method + " " + target.Redacted()
	return newPeriodic(d, o, networkTimeout, func(ctx context.Context) (string, string) {
		tr := &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableKeepAlives:      true, // a new connection is part of what is asked
			TLSClientConfig:        o.TLS(d.TLSServerName, d.TLSSkipVerify),
			MaxResponseHeaderBytes: maxBody,
		}
		defer tr.CloseIdleConnections()
		var strayed string
		client := &http.Client{Transport: tr, CheckRedirect: func(req *http.Request, via []*http.Request) error {
			switch {
			case d.DisableRedirects || len(via) >= maxRedirects:
				return http.ErrUseLastResponse
			case !sameTarget(target, req.URL):
				strayed = fmt.Sprintf(" (not followed: %s is another host or port)", cut(req.URL.Host))
				return http.ErrUseLastResponse
			}
			return nil
		}}
		req, err := d.request(ctx, method)
		if err != nil {
			return wire.HealthCritical, what + ": the request cannot be made"
		}
		resp, err := client.Do(req)
		if err != nil {
			return d.failure(ctx, what, unwrapURL(err))
		}
		defer resp.Body.Close()
		out := script.NewOutput(o.MaxOutput)
		_, _ = io.Copy(out, io.LimitReader(resp.Body, maxBody)) // the status says it all already
		text := fmt.Sprintf("%s: %s%s Output: %s", what, cut(resp.Status), strayed, out.String())
		switch {
		case resp.StatusCode >= 200 && resp.StatusCode <= 299:
			return wire.HealthPassing, text
		case resp.StatusCode == http.StatusTooManyRequests:
			return wire.HealthWarning, text
		}
		return wire.HealthCritical, text
	}), nil
}

func (d *Definition) request(ctx context.Context, method string) (*http.Request, error) {
	var body io.Reader
	if d.Body != "" {
		body = strings.NewReader(d.Body)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.HTTP, body)
	if err != nil {
		return nil, err
	}
	for name, values := range d.Header {
		for _, v := range values {
			req.Header.Add(name, v)
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", userAgent)
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "text/plain, text/*, */*")
	}
	return req, nil
}

// sameTarget says whether a redirect stays with the target: the same host and
// port, or the same host by https on its usual port where http was on its own.
func sameTarget(target, to *url.URL) bool {
	if !strings.EqualFold(target.Hostname(), to.Hostname()) {
		return false
	}
	from, next := portOf(target), portOf(to)
	if target.Scheme == to.Scheme {
		return from == next
	}
	return target.Scheme == "http" && to.Scheme == "https" && (from == next || from == "80" && next == "443")
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// unwrapURL takes off the address, which the output names already and which may
// hold a password.
func unwrapURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// cut shortens text that a target sent.
func cut(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
