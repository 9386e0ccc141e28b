package agent

import (
	"errors"
	"regexp"
	"slices"
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/go-uuid"

	"lictor/rpc/wire"
)

// eventRing is how many user events are kept (limits-and-defaults.md, 2).
const eventRing = 256

// userEventVersion is the version that fired events carry.
const userEventVersion = 1

// events is the ring of user events this agent has received. It is safe for
// concurrent use.
type events struct {
	mu      sync.Mutex // guards the fields below
	ring    []wire.UserEvent
	changed chan struct{} // closed and replaced at each event
}

func newEvents() *events { return &events{changed: make(chan struct{})} }

func (e *events) add(ev wire.UserEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ring) == eventRing {
		e.ring = append(e.ring[:0], e.ring[1:]...)
	}
	e.ring = append(e.ring, ev)
	close(e.changed)
	e.changed = make(chan struct{})
}

// list returns a copy, oldest first.
func (e *events) list() []wire.UserEvent {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]wire.UserEvent(nil), e.ring...)
}

func (e *events) wait() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// maxUserEventDepth bounds the nesting of an event's blob, which is flat.
const maxUserEventDepth = 4

func eventHandle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.RawToString = true
	h.MaxDepth = maxUserEventDepth
	h.MaxInitLen = 16
	return h
}

// encodeUserEvent makes the blob of an event, giving it an id. The error of a
// filter that is no regular expression says which one.
func encodeUserEvent(ev *wire.UserEvent) ([]byte, error) {
	if ev.Name == "" {
		return nil, errors.New("missing event name")
	}
	if ev.TagFilter != "" && ev.ServiceFilter == "" {
		return nil, errors.New("Cannot provide tag filter without service filter")
	}
	for _, f := range []struct{ name, expr string }{
		{"node", ev.NodeFilter}, {"service", ev.ServiceFilter}, {"tag", ev.TagFilter},
	} {
		if _, err := regexp.Compile(f.expr); err != nil {
			return nil, errors.New("Invalid " + f.name + " filter: " + err.Error())
		}
	}
	id, err := uuid.GenerateUUID()
	if err != nil {
		return nil, err
	}
	ev.ID, ev.Version = id, userEventVersion
	var b []byte
	err = codec.NewEncoderBytes(&b, eventHandle()).Encode(ev)
	return b, err
}

// decodeUserEvent reads the blob of an event that a peer sent.
func decodeUserEvent(b []byte) (wire.UserEvent, error) {
	var ev wire.UserEvent
	// Only a map is an event: a bare value would decode into nothing.
	if len(b) == 0 || b[0]&0xf0 != 0x80 && b[0] != 0xde && b[0] != 0xdf {
		return ev, errors.New("the payload is not a map")
	}
	err := codec.NewDecoderBytes(b, eventHandle()).Decode(&ev)
	return ev, err
}

// isFor reports whether an event is for a node of this name with these services:
// its name must match, and where the event is for services, one of them and, if
// that is asked for, one of its tags. A filter that is no regular expression is
// for nobody.
func isFor(ev wire.UserEvent, node string, services map[string]*wire.NodeService) bool {
	if ev.NodeFilter != "" && !matches(ev.NodeFilter, node) {
		return false
	}
	if ev.ServiceFilter == "" {
		return true
	}
	for _, s := range services {
		if !matches(ev.ServiceFilter, s.Service) {
			continue
		}
		if ev.TagFilter == "" || slices.ContainsFunc(s.Tags, func(tag string) bool { return matches(ev.TagFilter, tag) }) {
			return true
		}
	}
	return false
}

// matches applies a filter that came with an event.
func matches(filter, text string) bool {
	re, err := regexp.Compile(filter)
	return err == nil && re.MatchString(text)
}
