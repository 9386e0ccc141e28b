package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"lictor/test/harness"
)

// opTimeout is how long a client waits for an answer. It is longer than a server
// looks for a leader.
const opTimeout = 10 * time.Second

// client does operations against servers that it picks at random, and records
// them.
type client struct {
	id      int
	servers []*harness.Agent
	h       *history
	http    *http.Client
	done    *atomic.Int64 // writes that were acknowledged
	n       int           // makes values unique
	session string
}

func newClient(id int, servers []*harness.Agent, h *history, done *atomic.Int64) *client {
	return &client{id: id, servers: servers, h: h, done: done, http: &http.Client{Timeout: opTimeout}}
}

func (c *client) value() string {
	c.n++
	return fmt.Sprintf("%d.%d", c.id, c.n)
}

// errNotSent: the operation has certainly not reached a server.
var errNotSent = errors.New("not sent")

// do sends one request; any error but errNotSent leaves open whether it ran.
func (c *client) do(ctx context.Context, method, path string, body []byte) ([]byte, int, error) {
	s := c.servers[rand.IntN(len(c.servers))]
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Addr(harness.HTTPPort)+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	resp, err := c.http.Do(req)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return nil, 0, errNotSent
	}
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return b, resp.StatusCode, err
}

// write does a write and records it.
func (c *client) write(ctx context.Context, in input, path string) output {
	call := c.h.now()
	b, code, err := c.do(ctx, http.MethodPut, path, []byte(in.value))
	if errors.Is(err, errNotSent) {
		return output{unknown: true}
	}
	out := output{ok: string(bytes.TrimSpace(b)) == "true", unknown: err != nil || code != http.StatusOK}
	c.h.add(c.id, call, in, out)
	if !out.unknown {
		c.done.Add(1)
	}
	return out
}

func (c *client) put(ctx context.Context, key string) {
	c.write(ctx, input{kind: opPut, key: key, value: c.value()}, "/v1/kv/"+key)
}

// entry is what a read shows.
type entry struct {
	Value       []byte
	Session     string
	ModifyIndex uint64
}

// read does a consistent read and records it; ok says that there was an answer.
func (c *client) read(ctx context.Context, key string) (e entry, ok bool) {
	call := c.h.now()
	b, code, err := c.do(ctx, http.MethodGet, "/v1/kv/"+key+"?consistent", nil)
	var list []entry
	switch {
	case err == nil && code == http.StatusNotFound:
	case err == nil && code == http.StatusOK && json.Unmarshal(b, &list) == nil && len(list) == 1:
		e = list[0]
	default:
		return e, false
	}
	c.h.add(c.id, call, input{kind: opRead, key: key}, output{value: string(e.Value), holder: e.Session})
	return e, true
}

// cas reads, and writes if nobody has written meanwhile.
func (c *client) cas(ctx context.Context, key string) {
	e, ok := c.read(ctx, key)
	if !ok {
		return
	}
	in := input{kind: opCAS, key: key, value: c.value(), want: string(e.Value)}
	c.write(ctx, in, fmt.Sprintf("/v1/kv/%s?cas=%d", key, e.ModifyIndex))
}

// lock takes the lock of a key and gives it back. Where it does not know whether
// it has it, it ends its session and takes another.
func (c *client) lock(ctx context.Context, key string) {
	if c.session == "" && !c.newSession(ctx) {
		return
	}
	out := c.write(ctx, input{kind: opAcquire, key: key, session: c.session}, "/v1/kv/"+key+"?acquire="+c.session)
	if !out.unknown && out.ok {
		out = c.write(ctx, input{kind: opRelease, key: key, session: c.session}, "/v1/kv/"+key+"?release="+c.session)
	}
	for out.unknown && ctx.Err() == nil {
		out = c.write(ctx, input{kind: opDestroy, key: key, session: c.session}, "/v1/session/destroy/"+c.session)
		if !out.unknown {
			c.session = ""
		}
	}
}

// newSession makes a session that ends only by being destroyed: without checks,
// TTL or lock delay.
func (c *client) newSession(ctx context.Context) bool {
	b, code, err := c.do(ctx, http.MethodPut, "/v1/session/create", []byte(`{"NodeChecks": [], "LockDelay": "0s"}`))
	var made struct{ ID string }
	if err != nil || code != http.StatusOK || json.Unmarshal(b, &made) != nil {
		return false
	}
	c.session = made.ID
	return true
}

// run does operations until ctx ends.
func (c *client) run(ctx context.Context, keys []string, lockKey string) {
	for ctx.Err() == nil {
		key := keys[rand.IntN(len(keys))]
		switch rand.IntN(5) {
		case 0:
			c.put(ctx, key)
		case 1, 2:
			c.cas(ctx, key)
		case 3:
			c.read(ctx, key)
		case 4:
			c.lock(ctx, lockKey)
		}
	}
}
