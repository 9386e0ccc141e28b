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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"lictor/rpc/wire"
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

// answers are what a server could send to one request: whole answers of each
// kind, and the hostile ones.
func answers() [][]byte {
	w := getWire(nil)
	defer w.release()
	encode := func(seq uint64, errText string, v any) []byte {
		w.out.b = appendResponseHeader(w.out.b[:0], "Status.Ping", seq, errText)
		if err := w.encode(v); err != nil {
			panic(err) // a wire type that does not encode
		}
		return bytes.Clone(w.out.b)
	}
	seeds := hostile()
	for _, v := range []any{
		nil, "10.0.0.1:8300", []string{"10.0.0.1:8300", ""}, wire.NodeStatus{Node: "s1", CertNotAfter: time.Unix(1, 0)},
		wire.KeyringResponses{Responses: []*wire.KeyringResponse{{WAN: true, Keys: map[string]int{"k": 1}, Messages: map[string]string{"n": "m"}}, nil}},
	} {
		seeds = append(seeds, encode(1, "", v), encode(1, "No cluster leader", v), encode(2, "", v))
	}
	frames := encode(1, "", nil)
	for range 3 {
		w.out.b = w.out.b[:0]
		if err := w.encode(wire.LogFrame{Log: "a line"}); err != nil {
			panic(err)
		}
		frames = append(frames, w.out.b...)
	}
	most := encode(1, "", nil)
	return append(seeds, frames, append(most[:len(most)-1], 0xdb, 0x03, 0xff, 0xff, 0xff), append(most[:len(most)-1:len(most)-1], 0xdd, 0x00, 0xff, 0xff, 0xff))
}

// over makes a pool that has one session, over conn, to the target that it
// returns: nobody else answers there.
func over(t testing.TB, p *Pool, conn net.Conn) (*session, Target) {
	t.Helper()
	target := Target{Addr: "127.0.0.1:1", Datacenter: "dc1", Name: "server"}
	s := &session{target: target, conn: &watchedConn{Conn: conn}, lastUsed: time.Now()}
	var err error
	if s.mux, err = yamux.Client(&frameConn{Conn: s.conn}, muxConfig(p.log, time.Second)); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	close(ready)
	p.mu.Lock()
	p.sessions[target.Datacenter+"/"+target.Addr] = &entry{ready: ready, s: s}
	p.mu.Unlock()
	return s, target
}

// callEvery makes calls whose answers are decoded into each kind of reply, and a
// streaming one.
func callEvery(t *testing.T, p *Pool, target Target, kind byte) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	switch kind % 5 {
	case 0:
		var reply wire.KeyringResponses
		err = p.Call(ctx, target, "Internal.KeyringOperation", &wire.KeyringRequest{Operation: wire.KeyringList}, &reply)
	case 1:
		var reply []string
		err = p.Call(ctx, target, "Status.Peers", wire.Empty{}, &reply)
	case 2:
		var reply wire.NodeStatus
		err = p.Call(ctx, target, "Internal.AgentInfo", wire.Empty{}, &reply)
	case 3:
		err = p.Call(ctx, target, "Status.Ping", wire.Empty{}, nil)
	case 4:
		var st *Stream
		if st, err = p.Stream(ctx, target, "Agent.Monitor", wire.MonitorRequest{}); err == nil {
			for err == nil {
				var frame wire.LogFrame
				err = st.Recv(&frame)
			}
			st.Close()
		}
	}
	if ctx.Err() != nil {
		t.Fatalf("the call did not end by itself: %v", err)
	}
	if err != nil && len(err.Error()) > maxResponseHeader+1024 {
		t.Fatalf("an error of %d bytes", len(err.Error()))
	}
}

// Whatever a server answers to a request, the call ends.
func FuzzAnswer(f *testing.F) {
	for i, s := range answers() {
		f.Add(s, byte(i))
	}
	p := NewPool(PoolConfig{})
	f.Cleanup(func() { p.Close() })
	var answer atomic.Pointer[[]byte]
	serve := func(conn net.Conn) {
		server, err := yamux.Server(conn, muxConfig(p.log, time.Second))
		if err != nil {
			return
		}
		defer server.Close()
		for {
			stream, err := server.AcceptStream()
			if err != nil {
				return
			}
			if _, err := stream.Read(make([]byte, 4096)); err == nil { // one request fits
				stream.Write(*answer.Load())
			}
			stream.Close()
		}
	}
	var s *session
	var target Target
	f.Fuzz(func(t *testing.T, b []byte, kind byte) {
		if len(b) > 128<<10 {
			return // below the window of a stream: the server above does not wait for it
		}
		answer.Store(&b)
		if s == nil || s.over() { // as after an answer that was cut off
			us, them := net.Pipe()
			go serve(them)
			s, target = over(t, p, us)
		}
		callEvery(t, p, target, kind)
	})
}

// Whatever a server sends instead of a yamux session, the call ends.
func FuzzSession(f *testing.F) {
	open := []byte{0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0}  // the answer to the opening of stream 1
	reset := []byte{0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0} // and its end
	for i, s := range answers() {
		if i%8 == 0 {
			f.Add(s, byte(0))
		}
		data := []byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, byte(len(s) >> 8), byte(len(s))}
		f.Add(append(append(bytes.Clone(open), data...), s...), byte(i))
	}
	f.Add(reset, byte(0))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}, byte(0)) // 4 GB
	f.Add([]byte{0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, byte(0))             // go away
	f.Add([]byte{9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, byte(0))
	p := NewPool(PoolConfig{})
	f.Cleanup(func() { p.Close() })
	f.Fuzz(func(t *testing.T, b []byte, kind byte) {
		us, them := net.Pipe()
		s, target := over(t, p, us)
		var both sync.WaitGroup
		both.Go(func() { io.Copy(io.Discard, them) })
		both.Go(func() { them.Write(b); them.Close() })
		callEvery(t, p, target, kind)
		s.close()
		them.Close()
		both.Wait()
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
