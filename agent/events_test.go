package agent

import (
	"bytes"
	"testing"

	"lictor/rpc/wire"
)

func TestUserEventRoundTrip(t *testing.T) {
	sent := wire.UserEvent{Name: "deploy", Payload: []byte("v2"), NodeFilter: "^web-"}
	blob, err := encodeUserEvent(&sent)
	if err != nil {
		t.Fatal(err)
	}
	if sent.ID == "" || sent.Version != userEventVersion {
		t.Errorf("fired as %+v", sent)
	}
	got, err := decodeUserEvent(blob)
	if err != nil || got.ID != sent.ID || got.Name != "deploy" || !bytes.Equal(got.Payload, sent.Payload) || got.NodeFilter != "^web-" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestUserEventRefusals(t *testing.T) {
	for name, ev := range map[string]wire.UserEvent{
		"no name":            {},
		"tag, no service":    {Name: "x", TagFilter: "a"},
		"bad node filter":    {Name: "x", NodeFilter: "("},
		"bad service filter": {Name: "x", ServiceFilter: "("},
	} {
		if _, err := encodeUserEvent(&ev); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := decodeUserEvent([]byte("plain text")); err == nil {
		t.Error("a bare value was taken for an event")
	}
}

func TestEventsAreForTheirNodes(t *testing.T) {
	services := map[string]*wire.NodeService{
		"w1": {ID: "w1", Service: "web", Tags: []string{"v1", "blue"}},
		"d1": {ID: "d1", Service: "db"},
	}
	for _, row := range []struct {
		ev   wire.UserEvent
		node string
		want bool
	}{
		{wire.UserEvent{}, "web-1", true},
		{wire.UserEvent{NodeFilter: "web"}, "web-1", true},
		{wire.UserEvent{NodeFilter: "^db"}, "web-1", false},
		{wire.UserEvent{NodeFilter: "("}, "web-1", false},
		{wire.UserEvent{ServiceFilter: "web"}, "n", true},
		{wire.UserEvent{ServiceFilter: "^we$"}, "n", false},
		{wire.UserEvent{ServiceFilter: "("}, "n", false},
		{wire.UserEvent{ServiceFilter: "web", TagFilter: "blue"}, "n", true},
		{wire.UserEvent{ServiceFilter: "web", TagFilter: "green"}, "n", false},
		{wire.UserEvent{ServiceFilter: "db", TagFilter: "blue"}, "n", false}, // another service has the tag
		{wire.UserEvent{ServiceFilter: "web", TagFilter: "("}, "n", false},
		{wire.UserEvent{NodeFilter: "^x", ServiceFilter: "web"}, "n", false},
	} {
		if got := isFor(row.ev, row.node, services); got != row.want {
			t.Errorf("%+v on %s: %v, want %v", row.ev, row.node, got, row.want)
		}
	}
}

func TestEventRingKeepsTheLast(t *testing.T) {
	e := newEvents()
	changed := e.wait()
	for i := range eventRing + 10 {
		e.add(wire.UserEvent{LTime: uint64(i)})
	}
	list := e.list()
	if len(list) != eventRing || list[0].LTime != 10 || list[eventRing-1].LTime != eventRing+9 {
		t.Errorf("kept %d events, %d to %d", len(list), list[0].LTime, list[len(list)-1].LTime)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the new events")
	}
}

// What peers put into an event must neither stop the agent nor cost it memory.
func FuzzDecodeUserEvent(f *testing.F) {
	good, err := encodeUserEvent(&wire.UserEvent{Name: "deploy", Payload: []byte("x")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0x81, 0xa1, 'p', 0xdb, 0x3b, 0x9a, 0xca, 0x00}) // a payload of 1 GB, declared
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff})                  // a map of 4 G pairs
	f.Add(bytes.Repeat([]byte{0x81, 0xa1, 'n'}, 100))            // nested
	f.Add([]byte{0x81, 0xa1, 'v', 0xcf, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		ev, err := decodeUserEvent(b)
		if err == nil && len(ev.Payload) > len(b) {
			t.Errorf("a payload of %d bytes came out of %d", len(ev.Payload), len(b))
		}
	})
}
