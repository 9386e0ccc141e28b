package harness

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// Recorder stands in front of a TCP port and writes down what is sent to it.
type Recorder struct {
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	streams []*recording
	open    map[net.Conn]struct{} // nil once closed
}

type recording struct{ out, in []byte }

// recordMost bounds what is kept of each direction of a connection.
const recordMost = 1 << 20

// NewRecorder listens on addr and passes everything on to target, from the
// address it came from. It stops when t is done.
func NewRecorder(t testing.TB, addr, target string) *Recorder {
	t.Helper()
	ln := Listen(t, addr)
	r := &Recorder{ln: ln, target: target, open: map[net.Conn]struct{}{}}
	r.wg.Go(r.serve)
	t.Cleanup(r.close)
	return r
}

// Listen listens on addr. A port that was in use until now may still be held for a
// moment by a program that another test is just starting.
func Listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	var ln net.Listener
	err := Poll("port "+addr, func() (err error) { ln, err = net.Listen("tcp", addr); return err })
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func (r *Recorder) close() {
	r.ln.Close()
	r.Drop()
	r.mu.Lock()
	open := r.open
	r.open = nil
	r.mu.Unlock()
	for c := range open {
		c.Close()
	}
	r.wg.Wait()
}

// Drop closes the connections that are open.
func (r *Recorder) Drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.open {
		c.Close()
	}
}

// Reset forgets what was recorded.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams = nil
}

// FirstBytes are the first n bytes that the caller sent on each connection so
// far that has sent any.
func (r *Recorder) FirstBytes(n int) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out [][]byte
	for _, s := range r.streams {
		if len(s.out) > 0 {
			out = append(out, bytes.Clone(s.out[:min(n, len(s.out))]))
		}
	}
	return out
}

// Saw reports whether what was sent either way on any connection contains b.
func (r *Recorder) Saw(b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.streams {
		if bytes.Contains(s.out, b) || bytes.Contains(s.in, b) {
			return true
		}
	}
	return false
}

func (r *Recorder) serve() {
	for {
		c, err := r.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		r.wg.Go(func() { r.handle(c) })
	}
}

// track adds c to the open connections; it reports false, and closes c, after close.
func (r *Recorder) track(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		c.Close()
		return false
	}
	r.open[c] = struct{}{}
	return true
}

func (r *Recorder) handle(c net.Conn) {
	defer c.Close()
	from := &net.TCPAddr{IP: c.RemoteAddr().(*net.TCPAddr).IP}
	up, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer up.Close()
	if !r.track(c) || !r.track(up) {
		return
	}
	s := &recording{}
	r.mu.Lock()
	r.streams = append(r.streams, s)
	r.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { r.pipe(up, c, &s.out) })
	both.Go(func() { r.pipe(c, up, &s.in) })
	both.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
	delete(r.open, up)
}

func (r *Recorder) pipe(dst, src net.Conn, keep *[]byte) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		r.mu.Lock()
		*keep = append(*keep, buf[:min(n, recordMost-len(*keep))]...)
		r.mu.Unlock()
		if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
			break
		}
	}
	if tcp, ok := dst.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
	if _, err := io.Copy(io.Discard, src); err != nil {
		src.Close()
	}
}
