package consensus

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pair is an accepted connection as Raft sees it, and its other end.
func pair(t *testing.T) (in net.Conn, peer net.Conn) {
	t.Helper()
	s := newStreams(&Config{Address: "127.0.0.1:8300"})
	t.Cleanup(func() { s.Close() })
	near, far := net.Pipe()
	go s.give(near)
	c, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c, far
}

func TestAPeerMayIdleBetweenRequestsButNotInTheMiddleOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, peer := pair(t)
		b := make([]byte, 8)
		for range 2 {
			go func() {
				time.Sleep(10 * time.Hour) // a leader that has nothing to say
				peer.Write([]byte{0})
			}()
			if n, err := in.Read(b); n != 1 || err != nil {
				t.Fatalf("read %d bytes of a peer that was idle, %v", n, err)
			}
			go func() {
				time.Sleep(stallTimeout - time.Second)
				peer.Write([]byte{1})
			}()
			if n, err := in.Read(b); n != 1 || err != nil {
				t.Fatalf("read %d bytes of a peer that was slow, %v", n, err)
			}
			go peer.Read(make([]byte, 8))
			if _, err := in.Write([]byte("answer")); err != nil {
				t.Fatal(err)
			}
		}
		go peer.Write([]byte{0})
		if _, err := in.Read(b); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, err := in.Read(b)
		if took := time.Since(begun); !errors.Is(err, os.ErrDeadlineExceeded) || took != stallTimeout {
			t.Errorf("waited %s in the middle of a request: %v", took, err)
		}
	})
}

func TestAnAnswerThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, _ := pair(t)
		begun := time.Now()
		_, err := in.Write([]byte("answer"))
		if took := time.Since(begun); !errors.Is(err, os.ErrDeadlineExceeded) || took != replyTimeout {
			t.Errorf("waited %s for an answer to be read: %v", took, err)
		}
	})
}

func TestConnectionsThatAreClosedOnThisEndJustEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, _ := pair(t)
		go func() { time.Sleep(time.Second); in.(*inbound).of.closeAll() }()
		if _, err := in.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
	})
}
