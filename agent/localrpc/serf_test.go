package localrpc

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/serf/client"
	"github.com/hashicorp/serf/serf"

	"lictor/gossip"
)

func mustKey(t testing.TB) []byte {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(testKey)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func dialSerf(t testing.TB, addr, key string) *client.RPCClient {
	t.Helper()
	c, err := client.ClientFromConfig(&client.Config{Addr: addr, AuthKey: key, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func joinPools(t testing.TB, a, b *gossip.Pool) {
	t.Helper()
	m := b.LocalMember()
	if n, failed := a.Join(t.Context(), []string{addrPort(m)}); n != 1 {
		t.Fatal(failed)
	}
}

// The client library of Serf, unchanged, works against the server.
func TestSerfClient(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	other := startPool(t, "n2", "127.0.0.2")
	c := dialSerf(t, start(t, Config{Backend: f}), "")

	m := other.LocalMember()
	if n, err := c.Join([]string{addrPort(m)}, false); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	members, err := c.Members()
	if err != nil || len(members) != 2 {
		t.Fatal(members, err)
	}
	found, err := c.MembersFiltered(map[string]string{"role": "no.*"}, "alive", "n2|x")
	if err != nil || len(found) != 1 || found[0].Name != "n2" || found[0].Status != "alive" || !found[0].Addr.Equal(m.Addr) || found[0].Port != m.Port {
		t.Fatal(found, err)
	}
	if _, err := c.MembersFiltered(nil, "(", ""); err == nil || !strings.Contains(err.Error(), "Failed to compile regex") {
		t.Fatal(err)
	}
	stats, err := c.Stats()
	if err != nil || stats["serf_lan"]["members"] != "2" {
		t.Fatal(stats, err)
	}
	if coord, err := c.GetCoordinate("n1"); err != nil || coord == nil {
		t.Fatal(coord, err)
	}
	if coord, err := c.GetCoordinate("nobody"); err != nil || coord != nil {
		t.Fatal(coord, err)
	}
	if err := c.ForceLeavePrune("gone"); err != nil || !slices.Contains(f.list(), "force-leave gone") {
		t.Fatal(err, f.list())
	}
	if err := c.UpdateTags(map[string]string{"rack": "a"}, nil); err != nil || f.pool.LocalMember().Tags["rack"] != "a" {
		t.Fatal(err)
	}
	if err := c.UpdateTags(nil, []string{"dc"}); err == nil || !strings.Contains(err.Error(), "agent's own") {
		t.Fatal(err)
	}
	if err := c.Leave(); err != nil || !slices.Contains(f.list(), "leave") {
		t.Fatal(err)
	}
}

func TestSerfClientKeys(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := dialSerf(t, start(t, Config{Backend: f}), "")
	second := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	if msgs, err := c.InstallKey(second); err != nil {
		t.Fatal(msgs, err)
	}
	keys, n, _, err := c.ListKeys()
	if err != nil || n != 1 || keys[testKey] != 1 || keys[second] != 1 {
		t.Fatal(keys, n, err)
	}
	if _, err := c.UseKey(second); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RemoveKey(second); err == nil {
		t.Fatal("the primary key was removed")
	}
	if _, err := c.RemoveKey(testKey); err != nil {
		t.Fatal(err)
	}
	if _, err := c.InstallKey("no key"); err == nil || strings.Contains(err.Error(), "no key") {
		t.Fatal(err)
	}
}

func TestSerfClientMonitor(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := dialSerf(t, start(t, Config{Backend: f}), "")
	lines := make(chan string, 100)
	h, err := c.Monitor("info", lines)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Monitor("info", make(chan string, 1)); err == nil || err.Error() != errMonitorExists {
		t.Fatal(err)
	}
	f.log.Info("a line for the monitor")
	for !strings.Contains(receive(t, "line", lines), "a line for the monitor") {
	}
	if err := c.Stop(h); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Monitor("loud", make(chan string, 1)); err == nil || err.Error() != "Unknown log level: loud" {
		t.Fatal(err)
	}
	if _, err := c.Members(); err != nil {
		t.Fatal(err)
	}
}

func TestSerfClientEventsAndQueries(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	addr := start(t, Config{Backend: f})
	c, asker := dialSerf(t, addr, ""), dialSerf(t, addr, "")
	events := make(chan map[string]any, 100)
	if _, err := c.Stream("user:deploy,query:load,member-join", events); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stream("nonsense", make(chan map[string]any)); err == nil || err.Error() != errEventFilter {
		t.Fatal(err)
	}
	if err := c.UserEvent("other", nil, false); err != nil {
		t.Fatal(err)
	}
	if err := c.UserEvent("deploy", []byte("v1"), true); err != nil {
		t.Fatal(err)
	}
	ev := receive(t, "event", events)
	if text(ev["Event"]) != "user" || text(ev["Name"]) != "deploy" || text(ev["Payload"]) != "v1" {
		t.Fatal(ev)
	}

	acks, answers := make(chan string, 10), make(chan client.NodeResponse, 10)
	err := asker.Query(&client.QueryParam{
		Name: "load", Payload: []byte("now"), RequestAck: true, Timeout: 2 * time.Second, AckCh: acks, RespCh: answers,
	})
	if err != nil {
		t.Fatal(err)
	}
	q := receive(t, "query", events)
	if text(q["Event"]) != "query" || text(q["Name"]) != "load" || text(q["Payload"]) != "now" {
		t.Fatal(q)
	}
	id := number(t, q["ID"])
	if err := c.Respond(id, []byte("0.5")); err != nil {
		t.Fatal(err)
	}
	if err := c.Respond(id+1, nil); err == nil || err.Error() != errNoQuery {
		t.Fatal(err)
	}
	if from := receive(t, "ack", acks); from != "n1" {
		t.Fatal(from)
	}
	if r := receive(t, "answer", answers); r.From != "n1" || string(r.Payload) != "0.5" {
		t.Fatal(r)
	}
	for range answers { // closed by the last record
	}

	joinPools(t, f.pool, startPool(t, "n2", "127.0.0.2"))
	if j := receive(t, "join", events); text(j["Event"]) != "member-join" {
		t.Fatal(j)
	}
}

func TestSerfClientAuth(t *testing.T) {
	t.Parallel()
	addr := start(t, Config{Backend: newFake(t), AuthKey: []byte("secret"), Limits: Limits{AuthDelay: 1}})
	if _, err := dialSerf(t, addr, "secret").Members(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.ClientFromConfig(&client.Config{Addr: addr, AuthKey: "secre"}); err == nil || err.Error() != errAuthToken {
		t.Fatal(err)
	}
	if _, err := dialSerf(t, addr, "").Members(); err == nil || err.Error() != errAuthRequired {
		t.Fatal(err)
	}
}

func addrPort(m serf.Member) string {
	return m.Addr.String() + ":" + strconv.Itoa(int(m.Port))
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

func number(t testing.TB, v any) uint64 {
	t.Helper()
	switch v := v.(type) {
	case int64:
		return uint64(v)
	case uint64:
		return v
	}
	t.Fatalf("%T is no number", v)
	return 0
}
