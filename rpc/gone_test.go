package rpc_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"lictor/rpc"
)

// waiting has a method that waits for its caller to go, and tells when it began
// and how it ended; and one that answers while it watches.
func waiting(began chan<- struct{}, ended chan<- error) rpc.Table {
	tbl := table()
	tbl["Wait.Gone"] = rpc.Row{Access: rpc.AllowAll, Handle: func(ctx context.Context, c *rpc.Call) error {
		ctx, stop := c.UntilGone(ctx)
		defer stop()
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}}
	tbl["Wait.Not"] = rpc.Row{Access: rpc.AllowAll, Handle: func(ctx context.Context, c *rpc.Call) error {
		ctx, stop := c.UntilGone(ctx)
		defer stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return c.Reply(echo{Text: "here"})
	}}
	return tbl
}

func TestHandlerHearsThatItsCallerHasGone(t *testing.T) {
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	s, target := serve(t, rpc.ServerConfig{Table: waiting(began, ended)})
	p := pool(t, nil)

	// A call that was given up ends alone: its session goes on.
	ctx, cancel := context.WithCancel(withTimeout(t))
	go p.Call(ctx, target, "Wait.Gone", echo{}, nil)
	<-began
	cancel()
	wait(t, ended)
	if err := p.Call(withTimeout(t), target, "Status.Ping", echo{}, nil); err != nil {
		t.Errorf("the session did not survive: %v", err)
	}
	if st := s.Stats(); st.Accepted != 1 {
		t.Errorf("%d connections, want 1", st.Accepted)
	}

	// A single conversation whose connection is lost.
	c, err := net.Dial("tcp", target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(append([]byte{rpc.ByteRPC}, "\x82\xa3Seq\x01\xadServiceMethod\xa9Wait.Gone\x80"...)); err != nil {
		t.Fatal(err)
	}
	<-began
	c.Close()
	wait(t, ended)
}

func wait(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the handler still waits for a caller that has gone")
	}
}

// The stream of a watched call carries the next one.
func TestUntilGoneLeavesTheStreamAsItWas(t *testing.T) {
	s, target := serve(t, rpc.ServerConfig{Table: waiting(nil, nil)})
	p := pool(t, nil)
	for range 200 {
		var got echo
		if err := p.Call(withTimeout(t), target, "Wait.Not", echo{}, &got); err != nil || got.Text != "here" {
			t.Fatalf("got %q, %v", got.Text, err)
		}
	}
	if st := s.Stats(); st.Streams != 1 {
		t.Errorf("%d streams, want the one that is used again", st.Streams)
	}

	// Requests that are sent before the answer to the last one are answered too.
	c, err := net.Dial("tcp", target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	request := "\x82\xa3Seq\x01\xadServiceMethod\xa8Wait.Not\x80"
	if _, err := c.Write([]byte("\x00" + strings.Repeat(request, 3))); err != nil {
		t.Fatal(err)
	}
	var answers strings.Builder
	for buf := make([]byte, 512); strings.Count(answers.String(), "here") < 3; {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", answers.String(), err)
		}
		answers.Write(buf[:n])
	}
}

func TestCallServer(t *testing.T) {
	_, first := serve(t, rpc.ServerConfig{})
	_, second := serve(t, rpc.ServerConfig{})
	second.Name = "second"
	p := pool(t, nil)
	router := rpc.NewRouter("dc1", p, rpc.RouterOptions{Rate: 0.001, Burst: 1})
	router.SetServers("dc1", []rpc.Target{first, second})
	for _, target := range []rpc.Target{first, second, second} { // and the rate limit is not for it
		if err := router.CallServer(withTimeout(t), "dc1", target.Addr, "Status.Ping", echo{}, nil); err != nil {
			t.Errorf("%s: %v", target.Name, err)
		}
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	if err := router.CallServer(withTimeout(t), "dc1", dead.Addr().String(), "Status.Ping", echo{}, nil); !rpc.NotSent(err) {
		t.Errorf("nobody there: %v, want an error that says it was not sent", err)
	}
}
