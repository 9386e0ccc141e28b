package localrpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
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

// FuzzClient gives a client bytes for an answer. Whatever they are, the call
// ends, and a client that did not understand them says no more.
func FuzzClient(f *testing.F) {
	answer := func(errText string, body any) []byte {
		return frame(f, &responseHeader{Seq: 1, Error: errText}, body)
	}
	seeds := [][]byte{
		{}, {0x82}, {0xc1}, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		bytes.Repeat([]byte{0x91}, 1000),
		answer("", nil), answer(errAuthRequired, nil), answer("no such luck", nothing{}),
		answer("", &membersResponse{Members: []member{{Name: "n", Addr: net.IPv4(10, 0, 0, 1), Tags: map[string]string{"a": "b"}, Status: "alive"}}}),
		answer("", map[string]map[string]string{"agent": {"checks": "0"}}),
		answer("", &wire.KeyringResponses{Responses: []*wire.KeyringResponse{{WAN: true, Keys: map[string]int{"k": 1}}, nil}}),
		answer("", &joinResponse{Num: -1}), answer("", &eventFireResponse{ID: "x"}),
		append(answer("", nil), append(frame(f, &responseHeader{}, &logRecord{Log: "one"}), frame(f, &responseHeader{}, &logRecord{Log: "two"})...)...),
		frame(f, &responseHeader{Seq: 2}, &membersResponse{}),
	}
	for _, lead := range []byte{0xdb, 0xc6, 0xdd, 0xdf, 0xc9} {
		huge := []byte{lead, 0x3b, 0x9a, 0xca, 0x00}
		seeds = append(seeds, huge, append(answer("", nil), huge...),
			append(answer("", nil), append([]byte{0x81, 0xa7, 'M', 'e', 'm', 'b', 'e', 'r', 's'}, huge...)...))
	}
	for _, s := range seeds {
		for kind := range byte(7) {
			f.Add(s, kind)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, kind byte) {
		us, them := net.Pipe()
		defer us.Close()
		go func() {
			defer them.Close()
			if _, err := them.Read(make([]byte, 4096)); err == nil { // a request is one write
				them.Write(b)
			}
		}()
		c := &Client{conn: us, br: bufio.NewReader(us)}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var err error
		switch kind % 7 {
		case 0:
			_, err = c.Members(ctx, false)
		case 1:
			_, err = c.Stats(ctx)
		case 2:
			var res *wire.KeyringResponses
			if res, err = c.Keyring(ctx, &wire.KeyringRequest{Operation: wire.KeyringList}); err == nil && slices.Contains(res.Responses, nil) {
				t.Error("there is nothing in the list of answers")
			}
		case 3:
			_, err = c.Join(ctx, []string{"10.0.0.1"}, false)
		case 4:
			err = c.FireEvent(ctx, "", &wire.UserEvent{Name: "x"})
		case 5:
			err = c.Leave(ctx)
		case 6:
			if err = c.call(ctx, shortTimeout, cmdMonitor, &monitorRequest{LogLevel: "info"}, nil); err == nil {
				lines := make(chan string)
				go func() {
					for range lines {
					}
				}()
				err = c.receive(ctx, lines)
				close(lines)
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("the call did not end by itself: %v", err)
		}
		if _, remote := err.(RemoteError); err != nil && !remote && kind%7 != 6 {
			if err := c.Leave(ctx); !errors.Is(err, ErrClosed) {
				t.Fatalf("after an error the client goes on: %v", err)
			}
		}
	})
}
