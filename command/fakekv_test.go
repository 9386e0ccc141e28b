package command

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// fakeKV is a key-value store with sessions and blocking reads, enough of it
// for locks and semaphores.
type fakeKV struct {
	addr string

	mu       sync.Mutex
	index    uint64
	keys     map[string]*api.KVPair
	sessions map[string]*api.SessionEntry
	changed  chan struct{} // closed at the next change
	made     []string      // names of the sessions made
}

func serveKV(t testing.TB) *fakeKV {
	t.Helper()
	f := &fakeKV{index: 1, keys: map[string]*api.KVPair{}, sessions: map[string]*api.SessionEntry{}, changed: make(chan struct{})}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.addr = srv.URL
	return f
}

// change runs do, which reports whether it changed anything, and wakes readers.
func (f *fakeKV) change(do func() bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	if !do() {
		return false
	}
	close(f.changed)
	f.changed = make(chan struct{})
	return true
}

// destroy ends a session and what it holds.
func (f *fakeKV) destroy(id string) {
	f.change(func() bool {
		s := f.sessions[id]
		delete(f.sessions, id)
		for key, p := range f.keys {
			if p.Session != id {
				continue
			}
			if s.Behavior == api.SessionBehaviorDelete {
				delete(f.keys, key)
				continue
			}
			p.Session, p.ModifyIndex = "", f.index
		}
		return true
	})
}

// put writes a key as if somebody else had.
func (f *fakeKV) put(p *api.KVPair) {
	f.change(func() bool { p.ModifyIndex = f.index; f.keys[p.Key] = p; return true })
}

// state is the keys and the sessions that there are now.
func (f *fakeKV) state() (keys, sessions []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.keys {
		keys = append(keys, k)
	}
	for s := range f.sessions {
		sessions = append(sessions, s)
	}
	return keys, sessions
}

// hasSession waits until somebody has made a session.
func (f *fakeKV) hasSession(t testing.TB) {
	t.Helper()
	for {
		f.mu.Lock()
		n, changed := len(f.sessions), f.changed
		f.mu.Unlock()
		if n > 0 {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("nobody made a session")
		}
	}
}

func (f *fakeKV) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == "/v1/session/create":
		s := &api.SessionEntry{}
		var body struct{ Name, TTL, Behavior string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		s.Name, s.TTL, s.Behavior = body.Name, body.TTL, body.Behavior
		f.change(func() bool {
			s.ID = fmt.Sprintf("session-%d", f.index)
			f.sessions[s.ID] = s
			f.made = append(f.made, s.Name+" "+s.TTL+" "+s.Behavior)
			return true
		})
		_ = json.NewEncoder(w).Encode(map[string]string{"ID": s.ID})
	case strings.HasPrefix(path, "/v1/session/destroy/"):
		f.destroy(strings.TrimPrefix(path, "/v1/session/destroy/"))
		fmt.Fprint(w, "true")
	case strings.HasPrefix(path, "/v1/kv/"):
		f.kv(w, r, strings.TrimPrefix(path, "/v1/kv/"))
	default:
		http.Error(w, "boom", http.StatusInternalServerError)
	}
}

func (f *fakeKV) kv(w http.ResponseWriter, r *http.Request, key string) {
	q := r.URL.Query()
	body, _ := io.ReadAll(r.Body)
	number := func(name string) uint64 { n, _ := strconv.ParseUint(q.Get(name), 10, 64); return n }
	unchanged := func(p *api.KVPair) bool {
		cas := number("cas")
		return !q.Has("cas") || p == nil && cas == 0 || p != nil && p.ModifyIndex == cas
	}
	switch r.Method {
	case http.MethodPut:
		fmt.Fprint(w, f.change(func() bool {
			p := f.keys[key]
			held := ""
			if p != nil {
				held = p.Session
			}
			n := &api.KVPair{Key: key, Value: body, Flags: number("flags"), Session: held, ModifyIndex: f.index}
			switch s := q.Get("acquire"); {
			case s != "" && (held != "" && held != s || f.sessions[s] == nil), !unchanged(p):
				return false
			case s != "":
				n.Session = s
			case q.Has("release"):
				if held != q.Get("release") {
					return false
				}
				n.Session = ""
			}
			f.keys[key] = n
			return true
		}))
	case http.MethodDelete:
		fmt.Fprint(w, f.change(func() bool {
			if !unchanged(f.keys[key]) {
				return false
			}
			delete(f.keys, key)
			return true
		}))
	default:
		f.get(w, r, key, number("index"))
	}
}

// get answers once something has changed since index, or the wait is over. It
// wakes for any key: readers have to look for themselves.
func (f *fakeKV) get(w http.ResponseWriter, r *http.Request, key string, index uint64) {
	var over <-chan time.Time
	if wait, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
		over = time.After(wait)
	}
	f.mu.Lock()
	for waiting := true; waiting && index != 0 && f.index <= index; {
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-over:
			waiting = false
		case <-r.Context().Done():
			return
		}
		f.mu.Lock()
	}
	defer f.mu.Unlock()
	var found []*api.KVPair
	for k, p := range f.keys {
		if k == key || r.URL.Query().Has("recurse") && strings.HasPrefix(k, key) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *api.KVPair) int { return strings.Compare(a.Key, b.Key) })
	w.Header().Set("X-Consul-Index", strconv.FormatUint(f.index, 10))
	if len(found) == 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(found)
}
