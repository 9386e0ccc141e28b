package localrpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestReadObjectTakesExactlyOne(t *testing.T) {
	t.Parallel()
	first := frame(t, &queryRequest{Name: "n", FilterTags: map[string]string{"a": strings.Repeat("b", 300)}, Payload: make([]byte, 70)}, nil)
	br := bufio.NewReader(bytes.NewReader(append(bytes.Clone(first), "rest"...)))
	got, err := readObject(br, nil, len(first))
	if err != nil || !bytes.Equal(got, first) {
		t.Fatal(got, err)
	}
	if rest, err := io.ReadAll(br); err != nil || string(rest) != "rest" {
		t.Fatal(string(rest), err)
	}
	for limit := range len(first) {
		if _, err := readObject(bufio.NewReader(bytes.NewReader(first)), nil, limit); !errors.Is(err, errTooLarge) {
			t.Fatal(limit, err)
		}
	}
	for n := 1; n < len(first); n++ {
		if _, err := readObject(bufio.NewReader(bytes.NewReader(first[:n])), nil, len(first)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(n, err)
		}
	}
}

// FuzzServeConn sends bytes to a server, before and after a handshake. Whatever
// they are, it ends the connection within its deadlines and serves the next.
func FuzzServeConn(f *testing.F) {
	hello := frame(f, &requestHeader{Command: cmdHandshake}, &handshakeRequest{Version: 1})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{0x81, 0xa7, 'C', 'o', 'm', 'm', 'a', 'n', 'd', 0xdb, 0xff, 0xff, 0xff, 0xff})
	f.Add(bytes.Repeat([]byte{0x91}, 100))
	token := ""
	for cmd, r := range table {
		h := &requestHeader{Command: cmd, Seq: 1, Token: &token}
		var body any
		if r.body != nil {
			body = r.body(h)
		}
		f.Add(frame(f, h, body))
		f.Add(append(bytes.Clone(hello), frame(f, h, body)...))
	}
	f.Add(append(bytes.Clone(hello), frame(f, &requestHeader{Command: cmdStream, Seq: 2}, &streamRequest{Type: "user:a,*"})...))
	f.Add(append(bytes.Clone(hello), frame(f, &requestHeader{Command: cmdMonitor, Seq: 2}, &monitorRequest{LogLevel: "info"})...))

	// Over a socket the caller is trusted, so that every handler is reached.
	addr := startUnix(f, Config{Backend: homeAgent{newFake(f)}, Limits: Limits{
		HandshakeTimeout: time.Second, RequestTimeout: time.Second, AuthDelay: 1, StopTimeout: time.Second,
	}})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := dialRaw(t, "unix", addr)
		if _, err := c.Write(b); err == nil { // refused while we write is right too
			if err := c.Conn.(*net.UnixConn).CloseWrite(); err != nil && !isReset(err) && !errors.Is(err, syscall.ENOTCONN) {
				t.Fatal(err)
			}
		}
		_, err := io.Copy(io.Discard, c.br)
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			t.Fatal("the connection does not end")
		}
		c.Close()
	})
}

// homeAgent does not go where the bytes of a fuzzer send it.
type homeAgent struct{ *fakeAgent }

func (homeAgent) Join(context.Context, []string, bool) (int, error) { return 0, errors.New("at home") }
