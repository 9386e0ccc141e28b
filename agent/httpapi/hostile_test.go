package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-metrics"

	"lictor/rpc/wire"
)

// askRaw sends one request with its target as it is, and returns the answer with its
// body, unless that has no end.
func askRaw(t testing.TB, addr, method, target string, endless bool) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", method, target)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	if endless && resp.StatusCode == http.StatusOK {
		return resp, ""
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return resp, string(b)
}

// oddForms are other ways to write a path.
func oddForms(path string) []string {
	forms := []string{
		path + "/", path + "//", path + "/.", path + "/..", path + "/%2e%2e", path + "/../x", path + ";x", path + ";", path + "%3bx",
		path + "%00", path + "%20", path + ".", path + "\\", path + "%5c", path + "?", path + "?;x", path + "%3fx", path + "%23",
		"/x/.." + path, "/." + path, "/.." + path, "/%2e" + path, "/v1/.." + path, "//localhost" + path, "http://localhost" + path,
		strings.ToUpper(path), "/V" + path[2:], "/%76" + path[2:], "/%2576" + path[2:],
	}
	for i := range path {
		if path[i] != '/' {
			continue
		}
		before, after := path[:i], path[i+1:]
		forms = append(forms, before+"//"+after, before+"/./"+after, before+"/x/../"+after, before+"\\"+after, before+";x/"+after)
		if i > 0 {
			forms = append(forms, before+"%2f"+after, before+"%2F"+after, before+"%5c"+after, before+"%252f"+after)
		}
		if after != "" {
			forms = append(forms, before+"/"+strings.ToUpper(after[:1])+after[1:], before+"/"+fmt.Sprintf("%%%02x", after[0])+after[1:])
		}
	}
	return forms
}

// However a path is written, it is not found, or it is the path of the route and
// gets the same answer; and what is blocked is blocked in every form.
func TestOddPaths(t *testing.T) {
	open, openAddr := serve(t, Config{EnableDebug: true}, false)
	type target struct {
		method, path string
		name         bool // what follows is a name, in which anything may stand
	}
	var targets []target
	var blocked []string
	for _, row := range open.table() {
		if strings.HasPrefix(row.path, "/v1/acl/") && row.path != "/v1/acl/token/" {
			continue // one of those that answer that there is no such thing is enough
		}
		for _, m := range row.methods {
			if name := strings.HasSuffix(row.path, "/"); name {
				targets = append(targets, target{m, row.path + "x", true})
			} else {
				targets = append(targets, target{m, row.path, false})
			}
		}
		blocked = append(blocked, row.path)
	}
	targets = append(targets, target{"GET", "/debug/pprof/heap", false}, target{"GET", "/debug/pprof/", false})
	blocked = append(blocked, "/debug/pprof/")
	_, blockedAddr := serve(t, Config{EnableDebug: true, BlockEndpoints: blocked}, false)
	_, readOnlyAddr := serve(t, Config{EnableDebug: true, AllowWriteHTTPFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, false)

	for _, tg := range targets {
		endless := tg.path == "/v1/agent/monitor" || tg.path == "/v1/agent/metrics/stream"
		plain, body := askRaw(t, openAddr, tg.method, tg.path, endless)
		if strings.HasPrefix(body, "Invalid URL path") {
			t.Errorf("%s %s is not found", tg.method, tg.path)
		}
		for _, form := range oddForms(tg.path) {
			what := tg.method + " " + form
			resp, got := askRaw(t, openAddr, tg.method, form, endless)
			if resp.StatusCode == http.StatusBadRequest && strings.HasPrefix(got, "400 Bad Request") {
				continue // net/http itself: this is no request
			}
			if ct := resp.Header.Get("Content-Type"); resp.Header.Get("X-Content-Type-Options") != "nosniff" || ct == "" && got != "" || strings.Contains(ct, "html") && plain.Header.Get("Content-Type") != ct {
				t.Errorf("%s: %d, Content-Type %q", what, resp.StatusCode, ct)
			}
			switch resp.StatusCode {
			case http.StatusNotFound, http.StatusBadRequest:
			case http.StatusMethodNotAllowed: // it is a name behind a shorter route
			case plain.StatusCode:
				volatile := slices.ContainsFunc([]string{"host", "metrics", "pprof", "session/create"}, func(s string) bool { return strings.Contains(tg.path, s) })
				if !tg.name && !volatile && got != body {
					t.Errorf("%s: another answer than %s: %.200q", what, tg.path, got)
				}
			default:
				t.Errorf("%s: %d, and %s is %d", what, resp.StatusCode, tg.path, plain.StatusCode)
			}
			refused := func(where, addr string) {
				resp, got := askRaw(t, addr, tg.method, form, endless)
				switch resp.StatusCode {
				case http.StatusNotFound, http.StatusBadRequest, http.StatusForbidden:
				default:
					t.Errorf("%s where it is %s: %d %.100q", what, where, resp.StatusCode, got)
				}
			}
			refused("blocked", blockedAddr)
			if tg.method != http.MethodGet {
				refused("a write from elsewhere", readOnlyAddr)
			}
		}
	}
}

// The total of connections is bounded also where clients are not.
func TestConnectionTotal(t *testing.T) {
	l := newConnLimit(0, 3)
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	var done []func()
	for i := range 3 {
		d, ok := l.admit(addr(i))
		if !ok {
			t.Fatalf("connection %d was refused", i+1)
		}
		done = append(done, d)
	}
	if _, ok := l.admit(addr(9)); ok {
		t.Error("one too many was admitted")
	}
	done[0]()
	done[0]() // closing twice makes no second place
	if _, ok := l.admit(addr(9)); !ok {
		t.Error("a place that became free was not given away")
	}
	if _, ok := l.admit(netip.Addr{}); ok {
		t.Error("one too many was admitted, over a unix socket")
	}
}

// HTTP/2 by hand (RFC 9113): what a client library would never send.
const (
	h2Data, h2Headers, h2Reset, h2Settings, h2GoAway, h2WindowUpdate = 0, 1, 3, 4, 7, 8

	h2EndStream, h2Ack, h2EndHeaders = 1, 1, 4
)

func h2Frame(kind, flags byte, stream uint32, payload ...byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// h2Request opens a stream; end says that no body follows.
func h2Request(stream uint32, method, path string, end bool) []byte {
	field := func(b []byte, index byte, value string) []byte { // literal, name from the static table
		return append(append(b, index, byte(len(value))), value...)
	}
	block := field(field([]byte{0x87}, 0x04, path), 0x01, "localhost") // :scheme https, :path, :authority
	block = field(block, 0x02, method)
	flags := byte(h2EndHeaders)
	if end {
		flags |= h2EndStream
	}
	return h2Frame(h2Headers, flags, stream, block...)
}

func h2Window(stream, n uint32) []byte {
	return h2Frame(h2WindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, n)...)
}

// h2Dial connects and sends settings with this window for each stream.
func h2Dial(t testing.TB, addr string, window uint32) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	settings := binary.BigEndian.AppendUint32([]byte{0, 4}, window) // SETTINGS_INITIAL_WINDOW_SIZE
	hello := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), h2Frame(h2Settings, 0, 0, settings...)...)
	if _, err := c.Write(append(hello, h2Frame(h2Settings, h2Ack, 0)...)); err != nil {
		t.Fatal(err)
	}
	return c
}

// h2Ends reads until a stream has ended; reset says how.
func h2Ends(t testing.TB, c io.Reader, stream uint32) (reset bool, body []byte) {
	t.Helper()
	for {
		var head [9]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			t.Fatalf("stream %d has not ended: %v", stream, err)
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(c, payload); err != nil {
			t.Fatal(err)
		}
		if head[3] == h2GoAway {
			t.Fatalf("the connection was ended: %q", payload)
		}
		if binary.BigEndian.Uint32(head[5:]) != stream {
			continue
		}
		switch head[3] {
		case h2Reset:
			return true, body
		case h2Data:
			body = append(body, payload...)
			fallthrough
		case h2Headers:
			if head[4]&h2EndStream != 0 {
				return false, body
			}
		}
	}
}

// Stalls over HTTP/2: each ends its own stream and no other.
func TestHTTP2Stalls(t *testing.T) {
	conf, _ := secure(t, false)
	a, addr := serve(t, Config{Backend: newFake(t, 1000), TLS: conf, StallTimeout: 300 * time.Millisecond}, true)
	send := func(t *testing.T, c io.Writer, b []byte) {
		t.Helper()
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	others := func(t *testing.T, c io.ReadWriter, stream uint32) {
		t.Helper()
		send(t, c, append(h2Request(stream, "GET", "/v1/status/peers", true), h2Window(stream, 1<<20)...))
		if reset, body := h2Ends(t, c, stream); reset || string(body) != `["10.0.0.1:8300"]` {
			t.Errorf("another stream of the same connection: reset %t, %q", reset, body)
		}
	}
	t.Run("an answer that is not taken", func(t *testing.T) {
		t.Parallel()
		c := h2Dial(t, addr, 0)
		send(t, c, h2Request(1, "GET", "/v1/agent/members", true))
		if reset, body := h2Ends(t, c, 1); !reset || len(body) > 0 {
			t.Errorf("reset %t, %d bytes", reset, len(body))
		}
		others(t, c, 3)
	})
	for _, route := range []string{"PUT /v1/event/fire/x", "POST /v1/operator/keyring", "PUT /v1/agent/reload", "GET /v1/status/peers", "GET /nothing"} {
		t.Run("a body that does not come, to "+route, func(t *testing.T) {
			t.Parallel()
			c := h2Dial(t, addr, 1<<20)
			method, path, _ := strings.Cut(route, " ")
			send(t, c, h2Request(1, method, path, false))
			h2Ends(t, c, 1)
			send(t, c, append(h2Request(3, method, path, false), h2Frame(h2Data, 0, 3, 'a', 'b')...))
			h2Ends(t, c, 3)
			others(t, c, 5)
		})
	}
	t.Run("a connection that is not read", func(t *testing.T) {
		c := h2Dial(t, addr, 1<<30)
		send(t, c, h2Window(0, 1<<30))
		for i := range uint32(100) { // more than fits on the way
			send(t, c, h2Request(2*i+1, "GET", "/v1/agent/members", true))
		}
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			a.conns.mu.Lock()
			open := a.conns.all
			a.conns.mu.Unlock()
			if open == 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the connection is still open")
			}
		}
	})
}

// heard is a backend that notes what it is asked to do.
type heard struct {
	*fake
	keyring *wire.KeyringRequest
	event   *wire.UserEvent
}

func (h *heard) Keyring(_ context.Context, req *wire.KeyringRequest) (*wire.KeyringResponses, error) {
	h.keyring = req
	return &wire.KeyringResponses{}, nil
}

func (h *heard) FireEvent(_ context.Context, _ string, ev *wire.UserEvent) error {
	h.event = ev
	return nil
}

// Whatever the body of a write, it is refused and nothing happens, or what
// happens is what it says.
func FuzzBody(f *testing.F) {
	for i, s := range []string{
		"", "{}", "null", "[]", `"x"`, "1e999", `{"Key":"x"}`, `{"key":"x"}`, `{"Key":"x","Key":""}`, `{"Key":"x"}{}`, `{"Key":"x"}}`, `{"Key":"x"} `, `{"Key":1}`,
		`{"Key":null}`, `{"Kay":"x"}`, `{"Key":"` + "\xff" + `"}`, `{"Key":"\ud800"}`, "\xef\xbb\xbf{}", strings.Repeat("[", 20000), strings.Repeat(`{"Key":`, 20000),
		`{"Key":"` + strings.Repeat("x", maxBodyBytes) + `"}`, "\x00", `{"Key":"pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="}`,
	} {
		f.Add([]byte(s), byte(i))
		f.Add([]byte(s), byte(i+1))
	}
	h := &heard{fake: newFake(f, 1)}
	a, err := New(Config{Backend: h, Metrics: metrics.NewInmemSink(time.Second, time.Minute)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, kind byte) {
		h.keyring, h.event = nil, nil
		method, path := []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPut}[kind%4], "/v1/operator/keyring"
		if kind%4 == 3 {
			path = "/v1/event/fire/x"
		}
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(body)))
		if w.Header().Get("Content-Type") == "" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("headers %v", w.Header())
		}
		if w.Code != http.StatusOK {
			if w.Code != http.StatusBadRequest && w.Code != http.StatusRequestEntityTooLarge || h.keyring != nil || h.event != nil || w.Body.Len() > 512 {
				t.Errorf("%d, %d bytes, heard %v and %v", w.Code, w.Body.Len(), h.keyring, h.event)
			}
			return
		}
		if path == "/v1/event/fire/x" {
			if h.event == nil || !bytes.Equal(h.event.Payload, body) {
				t.Errorf("the event is %+v", h.event)
			}
			return
		}
		var want struct{ Key string }
		if err := json.Unmarshal(body, &want); err != nil || want.Key == "" || h.keyring == nil || h.keyring.Key != want.Key {
			t.Errorf("the body %q was heard as %+v (%v)", body, h.keyring, err)
		}
	})
}
