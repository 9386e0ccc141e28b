package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// hostile are messages that declare more than they have, or are no messages.
func hostile() [][]byte {
	huge := []byte{0x3b, 0x9a, 0xca, 0x00} // 1,000,000,000
	method := append([]byte{0x82}, "\xadServiceMethod"...)
	seeds := [][]byte{
		append(append(bytes.Clone(method), 0xdb), huge...), // the header of CVE-2026-87106
		appendRequestHeader(nil, "Status.Ping", 1),
		append(appendRequestHeader(nil, "Status.Ping", 1), 0x80),
		bytes.Repeat([]byte{0x91}, 10000), // nested
		bytes.Repeat([]byte{0x81}, 10000), // maps as keys of maps
		{0xc1},
		{},
	}
	for c := range 256 { // each format byte, in header and in body, with the largest length
		most := append([]byte{byte(c)}, 0xff, 0xff, 0xff, 0xff)
		seeds = append(seeds, most, append(appendRequestHeader(nil, "Status.Ping", 1), most...))
	}
	return seeds
}

// However an object is cut into pieces, the scanner says the same, never reads
// past its end, and never wants more than its limit.
func FuzzScan(f *testing.F) {
	for _, s := range hostile() {
		f.Add(s, 3)
	}
	const limit = 512
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var whole, pieces scanner
		whole.reset(limit, maxElements)
		pieces.reset(limit, maxElements)
		n, done, err := whole.feed(b)
		if n > len(b) || done && n > limit {
			t.Fatalf("used %d of %d bytes", n, len(b))
		}
		step := max(cut%7, 1)
		used, gotDone := 0, false
		var gotErr error
		for rest := b; len(rest) > 0 && !gotDone && gotErr == nil; {
			piece := rest[:min(step, len(rest))]
			var k int
			k, gotDone, gotErr = pieces.feed(piece)
			used += k
			rest = rest[k:]
			if k == 0 && !gotDone && gotErr == nil {
				t.Fatal("no progress")
			}
		}
		if gotDone != done || (gotErr == nil) != (err == nil) || done && used != n {
			t.Fatalf("in one piece: %d %v %v; in pieces of %d: %d %v %v", n, done, err, step, used, gotDone, gotErr)
		}
		if done {
			h, err := parseHeader(b[:n])
			if err == nil && len(h.method) > n {
				t.Fatal("a method longer than its header")
			}
		}
	})
}

// pipeListener hands out one connection.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// Whatever a stranger sends, the server goes on, and ends the connection once
// the stranger has.
func FuzzServeConn(f *testing.F) {
	for _, s := range hostile() {
		f.Add(append([]byte{ByteRPC}, s...))
		frame := []byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, byte(len(s) >> 8), byte(len(s))}
		f.Add(append(append([]byte{ByteMux}, frame...), s...))
	}
	for b := range 256 {
		f.Add([]byte{byte(b), 22, 3, 1})
	}
	ping := Row{Access: AllowAll, Handle: func(_ context.Context, c *Call) error {
		var v struct{ A, B []byte }
		if err := c.Decode(&v); err != nil {
			return err
		}
		return c.Reply(v)
	}}
	s, err := NewServer(ServerConfig{Table: Table{"Status.Ping": ping}})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.Cleanup(cancel)
	ln := &pipeListener{make(chan net.Conn), make(chan struct{})}
	go s.Serve(ctx, ln)
	f.Fuzz(func(t *testing.T, b []byte) {
		us, them := net.Pipe()
		ln.conns <- them
		go func() {
			us.Write(b)
			us.Close()
		}()
		us.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, us); err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Fatal("the connection was not closed")
			}
		}
	})
}

// What is declared and not sent costs nothing, in a header and in a body.
func TestDeclaredLengthsAreNotAllocated(t *testing.T) {
	var before, after runtime.MemStats
	w := getWire(nil)
	defer w.release()
	runtime.ReadMemStats(&before)
	for _, b := range hostile() {
		for _, limit := range []int{512, 1 << 20} {
			w.br.Reset(bytes.NewReader(b))
			w.sc.reset(limit, maxElements)
			out, err := readObject(w.br, w.body[:0], &w.sc, nil)
			w.body = out
			if err == nil {
				var v any
				w.decode(out, &v) // whatever it says: it must return
			}
		}
	}
	runtime.ReadMemStats(&after)
	const most = 16 << 20
	if got := after.TotalAlloc - before.TotalAlloc; got > most {
		t.Errorf("allocated %d bytes for messages that were never sent", got)
	}
}

func TestHeadersOverTheLimitAreRefused(t *testing.T) {
	var sc scanner
	for _, row := range []struct {
		b    []byte
		want error
	}{
		{append([]byte{0x81, 0xad}, strings.Repeat("x", 600)...), nil}, // cut off: not complete
		{appendRequestHeader(nil, strings.Repeat("x", 600), 1), errTooLarge},
		{[]byte{0xdb, 0xff, 0xff, 0xff, 0xff}, errTooLarge},
		{[]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, errTooLarge},
		{bytes.Repeat([]byte{0x91}, 100), errTooDeep},
		{[]byte{0xc1}, errMalformed},
	} {
		sc.reset(512, maxElements)
		if _, err := readObject(bufio.NewReader(bytes.NewReader(row.b)), nil, &sc, nil); row.want != nil && !errors.Is(err, row.want) {
			t.Errorf("% x...: %v, want %v", row.b[:min(8, len(row.b))], err, row.want)
		}
	}
}
