package checks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"google.golang.org/protobuf/encoding/protowire"

	"lictor/rpc/wire"
)

// The gRPC health checking protocol is one unary call over HTTP/2, with one
// string in the request and one number in the answer: net/http does the rest.
// https://github.com/grpc/grpc/blob/master/doc/health-checking.md
const (
	grpcMethod    = "/grpc.health.v1.Health/Check"
	grpcHeader    = 5 // bytes before a message: compressed or not, and its length
	grpcMaxAnswer = 4 << 10
	grpcServing   = 1
)

var grpcStates = map[uint64]string{0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

// newGRPC passes when the target says SERVING.
func newGRPC(d *Definition, o Options) (Check, error) {
	addr, service := splitGRPC(d.GRPC)
	target := url.URL{Scheme: "http", Host: addr, Path: grpcMethod}
	protocols := new(http.Protocols)
	if d.GRPCUseTLS {
		target.Scheme = "https"
		protocols.SetHTTP2(true)
	} else {
		protocols.SetUnencryptedHTTP2(true)
	}
	what := "gRPC check " + d.GRPC
	return newPeriodic(d, o, networkTimeout, func(ctx context.Context) (string, string) {
		tr := &http.Transport{Protocols: protocols, TLSClientConfig: o.TLS(d.TLSServerName, d.TLSSkipVerify), MaxResponseHeaderBytes: maxBody}
		defer tr.CloseIdleConnections()
		state, err := grpcHealth(ctx, tr, target.String(), service)
		switch {
		case err != nil:
			return d.failure(ctx, what, unwrapURL(err))
		case state != grpcServing:
			name, ok := grpcStates[state]
			if !ok {
				name = fmt.Sprint(state)
			}
			return wire.HealthCritical, what + ": the service is " + name
		}
		return wire.HealthPassing, what + ": success"
	}), nil
}

// grpcHealth makes the call and returns the status in the answer.
func grpcHealth(ctx context.Context, tr http.RoundTripper, target, service string) (uint64, error) {
	var msg []byte
	if service != "" {
		msg = protowire.AppendTag(msg, 1, protowire.BytesType)
		msg = protowire.AppendString(msg, service)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(append(frame, msg...)))
	if err != nil {
		return 0, errors.New("the request cannot be made")
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("User-Agent", userAgent)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the target answers %s", cut(resp.Status))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, grpcMaxAnswer))
	if err != nil {
		return 0, err
	}
	code, text := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if code == "" { // an answer without a message has its trailers in front
		code, text = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	switch {
	case code == "":
		return 0, errors.New("the target does not speak gRPC")
	case code != "0":
		if plain, err := url.PathUnescape(text); err == nil {
			text = plain
		}
		return 0, fmt.Errorf("gRPC status %s: %s", cut(code), cut(text))
	}
	return grpcState(body)
}

// grpcState reads field 1 of the answer's message; 0 when it is not there.
func grpcState(body []byte) (uint64, error) {
	bad := errors.New("the answer is not one of the health service")
	if len(body) < grpcHeader || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-grpcHeader) {
		return 0, bad
	}
	state := uint64(0)
	for msg := body[grpcHeader:]; len(msg) > 0; {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return 0, bad
		}
		msg = msg[n:]
		if num == 1 && typ == protowire.VarintType {
			if state, n = protowire.ConsumeVarint(msg); n < 0 {
				return 0, bad
			}
		} else if n = protowire.ConsumeFieldValue(num, typ, msg); n < 0 {
			return 0, bad
		}
		msg = msg[n:]
	}
	return state, nil
}
