package localrpc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"lictor/rpc/wire"
)

func TestClient(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			var addr string
			if network == "unix" {
				addr = "unix://" + startUnix(t, Config{Backend: f})
			} else {
				addr = start(t, Config{Backend: f})
			}
			c, err := Dial(t.Context(), addr, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			checkClient(t, f, c)
		})
	}
}

func checkClient(t *testing.T, f *fakeAgent, c *Client) {
	t.Helper()
	ctx := t.Context()
	if m, err := c.Members(ctx, false); err != nil || len(m) != 1 || m[0].Name != "n1" || m[0].Status.String() != "alive" {
		t.Fatal(m, err)
	}
	if m, err := c.Members(ctx, true); err != nil || len(m) != 0 {
		t.Fatal(m, err)
	}
	if s, err := c.Stats(ctx); err != nil || s["serf_lan"]["members"] != "1" {
		t.Fatal(s, err)
	}
	if _, err := c.Join(ctx, []string{"127.0.0.1:0"}, true); err == nil || err.Error() != "this agent is in no WAN pool" {
		t.Fatal(err)
	}
	res, err := c.Keyring(ctx, &wire.KeyringRequest{Operation: wire.KeyringList})
	if err != nil || len(res.Responses) != 1 || res.Responses[0].PrimaryKeys[testKey] != 1 || res.Responses[0].NumNodes != 1 {
		t.Fatal(res, err)
	}
	ev := &wire.UserEvent{Name: "deploy"}
	if err := c.FireEvent(ctx, "dc2", ev); err != nil || ev.ID != "the id" {
		t.Fatal(ev, err)
	}
	if err := errors.Join(c.ForceLeave(ctx, "n9", false, true), c.Reload(ctx), c.Leave(ctx)); err != nil {
		t.Fatal(err)
	}
	want := []string{"keyring list", "event dc2 deploy", "force-leave n9", "reload", "leave"}
	if calls := f.list(); !slices.Equal(calls, want) {
		t.Fatal(calls)
	}
}

func TestClientMonitor(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, err := Dial(t.Context(), start(t, Config{Backend: f}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Monitor(t.Context(), "info", true)
	if err != nil {
		t.Fatal(err)
	}
	f.log.Info("a line")
	for {
		line := receive(t, "line", s.C)
		if !strings.HasPrefix(line, "{") {
			t.Fatal(line)
		}
		if strings.Contains(line, "a line") {
			break
		}
	}
	s.Close()
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Members(t.Context(), false); err != nil { // a connection of its own
		t.Fatal(err)
	}
}

func TestMonitorTellsThatTheAgentEnded(t *testing.T) {
	t.Parallel()
	ln, err := Listen(t.Context(), "127.0.0.1:0", false, SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Backend: newFake(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	c, err := Dial(t.Context(), ln.Addr().String(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lines, err := c.Monitor(t.Context(), "error", false)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	cancel()
	if err := receive(t, "end of Serve", done); err != nil {
		t.Fatal(err)
	}
	if err := lines.Err(); !errors.Is(err, ErrStreamEnded) {
		t.Fatal(err)
	}
}

// The commands of the family before 0.8, in its dialect.
func TestFamilyDialect(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := dialRaw(t, "unix", startUnix(t, Config{Backend: f}))
	token := ""
	call := func(cmd string, body, res any) string {
		t.Helper()
		c.send(&requestHeader{Command: cmd, Seq: 3, Token: &token}, body)
		h := c.answer(res)
		if h.Seq != 3 {
			t.Fatal(h)
		}
		return h.Error
	}
	if e := call(cmdHandshake, &handshakeRequest{Version: 2}, nil); e != errVersionFamily {
		t.Fatal(e)
	}
	if e := call(cmdHandshake, &handshakeRequest{Version: 1}, nil); e != "" {
		t.Fatal(e)
	}
	if e := call(cmdHandshake, &handshakeRequest{Version: 1}, nil); e != errHandshakeDone {
		t.Fatal(e)
	}
	var members membersResponse
	if e := call(cmdMembersLAN, nil, &members); e != "" || len(members.Members) != 1 || members.Members[0].Name != "n1" {
		t.Fatal(e, members)
	}
	if e := call(cmdMembersWAN, nil, &members); e != "" {
		t.Fatal(e)
	}
	if e := call(cmdJoin, &joinRequest{Existing: []string{"x"}, WAN: true}, &joinResponse{}); e != "this agent is in no WAN pool" {
		t.Fatal(e)
	}
	if e := call(cmdReload, nil, nil); e != "" {
		t.Fatal(e)
	}
	var keys familyKeyResponse
	relay := uint8(0)
	if e := call(cmdListKeys, &keyRequest{RelayFactor: &relay}, &keys); e != "" {
		t.Fatal(e)
	}
	if want := (familyKey{"dc1", "LAN", testKey, 1}); len(keys.Keys) != 1 || keys.Keys[0] != want {
		t.Fatal(keys)
	}
	if want := (familyInfo{"dc1", "LAN", 1, ""}); len(keys.Info) != 1 || keys.Info[0] != want {
		t.Fatal(keys)
	}
	// A RelayFactor is enough to tell the dialect.
	c.send(&requestHeader{Command: cmdUseKey}, &keyRequest{Key: testKey, RelayFactor: &relay})
	keys = familyKeyResponse{}
	if h := c.answer(&keys); h.Error != "" || len(keys.Info) != 1 {
		t.Fatal(h, keys)
	}
	if calls := f.list(); !slices.Equal(calls, []string{"reload", "keyring list", "keyring use"}) {
		t.Fatal(calls)
	}
}
