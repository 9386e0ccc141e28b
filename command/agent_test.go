package command

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lictor/agent"

	"github.com/hashicorp/cli"
)

// fakeNode is a node whose parts block until the test lets them go on.
type fakeNode struct {
	startErr, leaveErr, exitErr   error
	startBlocks, leaveBlocks      bool
	shutdownHangs                 bool
	hang                          chan struct{}
	done                          chan struct{}
	started, reloaded, left, down int
}

func (f *fakeNode) Start(ctx context.Context) error {
	f.started++
	if f.startBlocks {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.startErr
}

func (f *fakeNode) Banner() agent.Banner {
	return agent.Banner{
		NodeName: "bulldog", Datacenter: "dc1", ClientAddr: "127.0.0.1", HTTP: 8500, HTTPS: -1, DNS: 8600, RPC: 8400,
		ClusterAddr: "10.1.10.12", LAN: 8301, WAN: 8302, GossipEncrypt: true,
	}
}

func (f *fakeNode) Done() <-chan struct{} { return f.done }
func (f *fakeNode) ExitError() error      { return f.exitErr }
func (f *fakeNode) Reload(context.Context) error {
	f.reloaded++
	return errors.New("logged by the agent")
}

func (f *fakeNode) Leave(ctx context.Context) error {
	f.left++
	if f.leaveBlocks {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.leaveErr
}

func (f *fakeNode) Shutdown() {
	f.down++
	if f.shutdownHangs {
		<-f.hang
	}
}

const guideBanner = `==> Starting Lictor agent...
==> Starting Lictor agent RPC...
==> Lictor agent running!
         Node name: 'bulldog'
        Datacenter: 'dc1'
            Server: false (bootstrap: false)
       Client Addr: 127.0.0.1 (HTTP: 8500, HTTPS: -1, DNS: 8600, RPC: 8400)
      Cluster Addr: 10.1.10.12 (LAN: 8301, WAN: 8302)
    Gossip encrypt: true, RPC-TLS: false, TLS-Incoming: false

==> Log data will now stream in as it occurs:
`

// runNode runs n and sends it the signals one after the other, each once
// everything the one before it caused has come to rest.
func runNode(t *testing.T, n *fakeNode, quiet bool, signals ...os.Signal) (status int, out, errOut string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n.done, n.hang = make(chan struct{}), make(chan struct{})
		ui := cli.NewMockUi()
		in := &invocation{ui: ui}
		ch := make(chan os.Signal)
		var log bytes.Buffer
		r := &agentRun{in: in, signals: ch, quiet: quiet, onInt: true, leaveMax: leaveTimeout, gate: &gate{w: &log}}
		exited := make(chan int, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			exited <- r.run(ctx, func() (node, error) {
				_, _ = r.gate.Write([]byte("early line\n"))
				return n, nil
			})
		}()
		synctest.Wait()
		for _, s := range signals {
			if s == nil { // the agent ends by itself
				close(n.done)
			} else {
				ch <- s
			}
			synctest.Wait()
		}
		select {
		case status = <-exited:
		case <-time.After(time.Minute): // virtual: every timeout has passed
			t.Error("the agent does not end")
			cancel()
			status = <-exited
		}
		out, errOut = ui.OutputWriter.String(), ui.ErrorWriter.String()
		if log.String() != "early line\n" {
			t.Errorf("log is %q", log.String())
		}
		close(n.hang)
		synctest.Wait()
	})
	return status, out, errOut
}

func TestBannerIsTheGuides(t *testing.T) {
	status, out, errOut := runNode(t, &fakeNode{}, false, nil)
	if status != 0 || out != guideBanner || errOut != "" {
		t.Errorf("status %d, output\n%s\nerrors %q", status, out, errOut)
	}
	_, out, _ = runNode(t, &fakeNode{}, true, nil)
	if out != "" {
		t.Errorf("with log_json the agent prints %q", out)
	}
	noRPC := banner(agent.Banner{RPC: -1})
	if strings.Contains(noRPC, "agent RPC...") || !strings.Contains(noRPC, "RPC: -1)") {
		t.Errorf("without a local RPC the banner is %q", noRPC)
	}
}

// TestAgentExit is the reference's table of signals and exit codes. The node
// leaves on an interrupt and not on SIGTERM.
func TestAgentExit(t *testing.T) {
	boom := errors.New("boom")
	tests := map[string]struct {
		node    *fakeNode
		signals []os.Signal
		status  int
		left    int
		errOut  string
	}{
		"interrupt leaves":           {&fakeNode{}, []os.Signal{os.Interrupt}, 0, 1, ""},
		"SIGTERM stops":              {&fakeNode{}, []os.Signal{syscall.SIGTERM}, 1, 0, ""},
		"hangups are no end":         {&fakeNode{}, []os.Signal{syscall.SIGHUP, syscall.SIGHUP, os.Interrupt}, 0, 1, ""},
		"leave through the API":      {&fakeNode{}, []os.Signal{nil}, 0, 0, ""},
		"a part failed":              {&fakeNode{exitErr: boom}, []os.Signal{nil}, 1, 0, "==> Agent stopped: boom"},
		"leave fails":                {&fakeNode{leaveErr: boom}, []os.Signal{os.Interrupt}, 1, 1, "Error leaving the cluster: boom"},
		"leave takes too long":       {&fakeNode{leaveBlocks: true}, []os.Signal{os.Interrupt}, 1, 1, ""},
		"second signal":              {&fakeNode{leaveBlocks: true}, []os.Signal{os.Interrupt, syscall.SIGTERM}, 1, 1, "Caught second signal"},
		"a hangup is no second one":  {&fakeNode{leaveBlocks: true}, []os.Signal{os.Interrupt, syscall.SIGHUP, os.Interrupt}, 1, 1, "Caught second signal"},
		"signal during the shutdown": {&fakeNode{shutdownHangs: true}, []os.Signal{os.Interrupt, os.Interrupt}, 1, 1, ""},
		"start fails":                {&fakeNode{startErr: boom}, nil, 1, 0, "==> Error starting agent: boom"},
		"signal during the start":    {&fakeNode{startBlocks: true}, []os.Signal{syscall.SIGHUP, os.Interrupt}, 1, 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, _, errOut := runNode(t, tt.node, false, tt.signals...)
			if status != tt.status || tt.node.left != tt.left {
				t.Errorf("status %d after %d leaves, want %d after %d", status, tt.node.left, tt.status, tt.left)
			}
			if !strings.Contains(errOut, tt.errOut) {
				t.Errorf("errors are %q, want %q", errOut, tt.errOut)
			}
			wantDown := 1
			if tt.node.startErr != nil || tt.node.startBlocks {
				wantDown = 0 // Start has undone itself
			}
			if tt.node.down != wantDown {
				t.Errorf("shut down %d times, want %d", tt.node.down, wantDown)
			}
		})
	}
}

func TestHangupReloads(t *testing.T) {
	n := &fakeNode{}
	if status, _, _ := runNode(t, n, false, syscall.SIGHUP, syscall.SIGHUP, nil); status != 0 || n.reloaded != 2 {
		t.Errorf("status %d after %d reloads", status, n.reloaded)
	}
}

func TestGateIsBounded(t *testing.T) {
	var out bytes.Buffer
	g := &gate{w: &out}
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range gateBytes/len(line) + 5 {
		if n, err := g.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if out.Len() != 0 {
		t.Fatal("the gate leaks")
	}
	g.open()
	g.open()
	if !strings.HasSuffix(out.String(), "\n(5 log lines before this one were dropped)\n") || out.Len() > gateBytes+100 {
		t.Errorf("%d bytes, ending in %q", out.Len(), out.String()[out.Len()-60:])
	}
	out.Reset()
	_, _ = g.Write(line)
	if out.Len() != len(line) {
		t.Error("the open gate holds back")
	}
}
