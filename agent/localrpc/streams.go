package localrpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/serf/serf"

	"lictor/agent/logs"
)

// eventBuffer is how many events a stream may lag behind.
const eventBuffer = 512

// maxQueryTime bounds how long a query may be waited for.
const maxQueryTime = 10 * time.Minute

var errTooManyStreams = errors.New("too many streams on this connection")

// streams are what a connection streams besides its answers. Each is a
// goroutine; all end with the connection.
type streams struct {
	c    *session
	ctx  context.Context // the connection's life
	done sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	open    map[uint64]*openStream
	nextID  uint64
	queries map[uint64]pendingQuery
}

// pendingQuery waits for respond. The deadline is kept beside the query, which
// forgets it when it is answered.
type pendingQuery struct {
	query    *serf.Query
	deadline time.Time
}

type streamKind uint8

const (
	logStream streamKind = iota
	eventStream
	queryStream
)

type openStream struct {
	kind   streamKind
	cancel context.CancelFunc
}

func (s *streams) init(c *session, ctx context.Context) { // ctx is kept: it is the connection's
	s.c, s.ctx = c, ctx
	s.open = map[uint64]*openStream{}
	s.queries = map[uint64]pendingQuery{}
}

func (s *streams) wait() { s.done.Wait() }

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func (s *streams) stop(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.open[seq]; ok {
		o.cancel()
		delete(s.open, seq)
	}
}

// check says why no stream can be opened under a sequence number; nil if one can.
func (s *streams) check(kind streamKind, seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.open {
		if kind == logStream && o.kind == logStream {
			return errors.New(errMonitorExists)
		}
	}
	if _, ok := s.open[seq]; ok {
		return errors.New(errStreamExists)
	}
	if len(s.open) >= s.c.s.limits.MaxStreams {
		return errTooManyStreams
	}
	return nil
}

// start runs a stream once the answer is out. Only the session's own goroutine
// opens streams, so that what check said still holds.
func (s *streams) start(kind streamKind, seq uint64, run func(ctx context.Context, send func(record any) error)) {
	s.c.after = func() {
		ctx, cancel := context.WithCancel(s.ctx)
		own := &openStream{kind: kind, cancel: cancel}
		s.mu.Lock()
		s.open[seq] = own
		s.mu.Unlock()
		s.done.Go(func() {
			defer cancel()
			run(ctx, func(record any) error {
				return s.c.send(ctx, s.c.s.limits.StreamTimeout, &responseHeader{Seq: seq}, record)
			})
			s.mu.Lock()
			if s.open[seq] == own {
				delete(s.open, seq)
			}
			left := len(s.open)
			s.mu.Unlock()
			if left == 0 {
				s.c.streamEnded()
			}
		})
	}
}

func monitor(_ context.Context, c *session, h *requestHeader, req *monitorRequest) (any, error) {
	if err := c.streams.check(logStream, h.Seq); err != nil {
		return nil, err
	}
	lines, err := c.s.backend.Monitor(req.LogLevel, req.LogJSON)
	if err != nil {
		return nil, err
	}
	c.streams.start(logStream, h.Seq, func(ctx context.Context, send func(any) error) {
		defer lines.Close()
		sendLines(ctx, lines, send)
	})
	return nil, nil
}

// sendLines sends log lines until ctx is done. Lines that were lost because the
// client reads slowly are made up for by one that says how many.
func sendLines(ctx context.Context, lines *logs.Stream, send func(any) error) {
	var told uint64
	for {
		select {
		case <-ctx.Done():
			return
		case line, ok := <-lines.C:
			if !ok {
				return
			}
			if send(&logRecord{Log: line}) != nil {
				return
			}
		}
		if lost := lines.Dropped(); lost > told && len(lines.C) == 0 {
			notice := fmt.Sprintf("[WARN] %d log lines were dropped here: the reader is too slow", lost-told)
			if send(&logRecord{Log: notice}) != nil {
				return
			}
			told = lost
		}
	}
}

// eventFilter is one part of a stream's Type.
type eventFilter struct{ event, name string }

func parseFilters(spec string) ([]eventFilter, error) {
	if spec == "" {
		spec = "*"
	}
	var filters []eventFilter
	for part := range strings.SplitSeq(spec, ",") {
		f := eventFilter{event: part}
		if kind, name, ok := strings.Cut(part, ":"); ok && (kind == "user" || kind == "query") {
			f = eventFilter{kind, name}
		}
		switch f.event {
		case "*", "user", "query", "member-join", "member-leave", "member-failed", "member-update", "member-reap":
		default:
			return nil, errors.New(errEventFilter)
		}
		filters = append(filters, f)
	}
	return filters, nil
}

func (f eventFilter) matches(e serf.Event) bool {
	if f.event == "*" {
		return true
	}
	if e.EventType().String() != f.event {
		return false
	}
	switch e := e.(type) {
	case serf.UserEvent:
		return f.name == "" || e.Name == f.name
	case *serf.Query:
		return f.name == "" || e.Name == f.name
	}
	return true
}

func stream(_ context.Context, c *session, h *requestHeader, req *streamRequest) (any, error) {
	filters, err := parseFilters(req.Type)
	if err != nil {
		return nil, err
	}
	if err := c.streams.check(eventStream, h.Seq); err != nil {
		return nil, err
	}
	sub := c.s.backend.LAN().Subscribe(eventBuffer)
	c.streams.start(eventStream, h.Seq, func(ctx context.Context, send func(any) error) {
		defer sub.Close()
		var lost uint64
		for {
			var e serf.Event
			var ok bool
			select {
			case <-ctx.Done():
				return
			case e, ok = <-sub.C:
			}
			if !ok {
				return
			}
			for _, f := range filters {
				if !f.matches(e) {
					continue
				}
				if rec := c.streams.record(e); rec != nil && send(rec) != nil {
					return
				}
				break
			}
			if n := sub.Dropped(); n > lost {
				c.s.warn("events dropped: the reader of a stream is too slow", "count", n-lost, "from", c.caller.name)
				if send(&droppedRecord{Event: "dropped", Dropped: n - lost}) != nil {
					return
				}
				lost = n
			}
		}
	})
	return nil, nil
}

// record is an event as it is sent, nil for one that Serf's clients do not know.
func (s *streams) record(e serf.Event) any {
	switch e := e.(type) {
	case serf.MemberEvent:
		return &memberEventRecord{Event: e.String(), Members: toMembers(e.Members)}
	case serf.UserEvent:
		return &userEventRecord{Event: "user", LTime: e.LTime, Name: e.Name, Payload: e.Payload, Coalesce: e.Coalesce}
	case *serf.Query:
		return &queryEventRecord{Event: "query", ID: s.register(e), LTime: e.LTime, Name: e.Name, Payload: e.Payload}
	}
	return nil
}

// register keeps a query for respond and returns its number. Those past their
// deadline are forgotten, and where that is not enough the oldest one.
func (s *streams) register(q *serf.Query) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, oldest := time.Now(), s.nextID
	for id, old := range s.queries {
		if now.After(old.deadline) {
			delete(s.queries, id)
		} else {
			oldest = min(oldest, id)
		}
	}
	if len(s.queries) >= s.c.s.limits.MaxQueries {
		delete(s.queries, oldest)
	}
	id := s.nextID
	s.nextID++
	s.queries[id] = pendingQuery{q, q.Deadline()}
	return id
}

func respond(_ context.Context, c *session, _ *requestHeader, req *respondRequest) (any, error) {
	c.streams.mu.Lock()
	q, ok := c.streams.queries[req.ID]
	c.streams.mu.Unlock()
	if !ok || time.Now().After(q.deadline) {
		return nil, errors.New(errNoQuery)
	}
	return nil, q.query.Respond(req.Payload)
}

func query(_ context.Context, c *session, h *requestHeader, req *queryRequest) (any, error) {
	if req.Timeout < 0 || req.Timeout > maxQueryTime {
		return nil, fmt.Errorf("query timeout %s is not between 0 and %s", req.Timeout, maxQueryTime)
	}
	if err := c.streams.check(queryStream, h.Seq); err != nil {
		return nil, err
	}
	res, err := c.s.backend.LAN().Query(req.Name, req.Payload, &serf.QueryParam{
		FilterNodes: req.FilterNodes,
		FilterTags:  req.FilterTags,
		RequestAck:  req.RequestAck,
		RelayFactor: req.RelayFactor,
		Timeout:     req.Timeout,
	})
	if err != nil {
		return nil, err
	}
	c.streams.start(queryStream, h.Seq, func(ctx context.Context, send func(any) error) {
		defer res.Close()
		sendQuery(ctx, res, send)
	})
	return nil, nil
}

// sendQuery sends what comes back from a query until its deadline.
func sendQuery(ctx context.Context, res *serf.QueryResponse, send func(any) error) {
	over := time.NewTimer(time.Until(res.Deadline()))
	defer over.Stop()
	acks, answers := res.AckCh(), res.ResponseCh()
	for {
		rec := queryRecord{}
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			_ = send(&queryRecord{Type: "done"}) // the last one: a failure has ended the connection
			return
		case from, ok := <-acks:
			if !ok {
				acks = nil
				continue
			}
			rec = queryRecord{Type: "ack", From: from}
		case r, ok := <-answers:
			if !ok {
				answers = nil
				continue
			}
			rec = queryRecord{Type: "response", From: r.From, Payload: r.Payload}
		}
		if send(&rec) != nil {
			return
		}
	}
}
