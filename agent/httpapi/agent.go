package httpapi

import (
	"bufio"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/serf/coordinate"
	"github.com/hashicorp/serf/serf"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lictor/agent/logs"
	"lictor/version"
)

func remoteAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// flag says whether a query parameter is on: "?wan" and "?wan=1" are.
func flag(q url.Values, name string) bool {
	v, ok := q[name]
	return ok && v[0] != "0" && !strings.EqualFold(v[0], "false")
}

func (a *API) agentSelf(w http.ResponseWriter, r *http.Request) error {
	self := a.cfg.Backend.Self()
	a.writeJSON(w, r, struct {
		Config      SelfConfig
		DebugConfig map[string]any
		Coord       *coordinate.Coordinate
		Member      member
		Stats       map[string]map[string]string
		Meta        map[string]string
	}{self.Config, self.DebugConfig, self.Coord, memberOf(a.cfg.Backend.LocalMember()), a.cfg.Backend.Stats(), self.Meta})
	return nil
}

func (a *API) agentVersion(w http.ResponseWriter, r *http.Request) error {
	a.writeJSON(w, r, map[string]string{
		"SHA": version.Get().Revision, "BuildDate": version.Get().BuildDate, "HumanVersion": version.String(), "FIPS": "",
	})
	return nil
}

// name is what stands behind a route's path, decoded.
func name(r *http.Request, prefix, missing string) (string, error) {
	n := strings.TrimPrefix(r.URL.Path, prefix)
	if n == "" {
		return "", failure(http.StatusBadRequest, "%s", missing)
	}
	return n, nil
}

func (a *API) agentJoin(w http.ResponseWriter, r *http.Request) error {
	addr, err := name(r, "/v1/agent/join/", "Missing address")
	if err != nil {
		return err
	}
	_, err = a.cfg.Backend.Join(r.Context(), []string{addr}, flag(r.URL.Query(), "wan"))
	return empty(w, err)
}

func (a *API) agentLeave(w http.ResponseWriter, r *http.Request) error {
	return empty(w, a.cfg.Backend.Leave(r.Context()))
}

func (a *API) agentForceLeave(w http.ResponseWriter, r *http.Request) error {
	node, err := name(r, "/v1/agent/force-leave/", "Missing node name")
	if err != nil {
		return err
	}
	q := r.URL.Query()
	return empty(w, a.cfg.Backend.ForceLeave(node, flag(q, "prune"), flag(q, "wan")))
}

func (a *API) agentReload(w http.ResponseWriter, r *http.Request) error {
	return empty(w, a.cfg.Backend.Reload(r.Context()))
}

// empty answers a write that returns nothing.
func empty(w http.ResponseWriter, err error) error {
	if err == nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusOK)
	}
	return err
}

// monitorFlush is how long a log line may wait to be sent.
const monitorFlush = 200 * time.Millisecond

func (a *API) agentMonitor(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	level := q.Get("loglevel")
	if level == "" {
		level = "INFO"
	}
	stream, err := a.cfg.Backend.Monitor(level, q.Has("logjson") && flag(q, "logjson"))
	if err != nil {
		return failure(http.StatusBadRequest, "%s", err)
	}
	defer stream.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	rc.Flush()
	copyLog(r, w, rc, stream)
	return nil
}

func copyLog(r *http.Request, w http.ResponseWriter, rc *http.ResponseController, stream *logs.Stream) {
	buf := bufio.NewWriter(w)
	tick := time.NewTicker(monitorFlush)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case line, ok := <-stream.C:
			if !ok {
				buf.Flush()
				return
			}
			buf.WriteString(line)
			buf.WriteByte('\n')
			if len(stream.C) > 0 || buf.Buffered() == 0 {
				continue
			}
		case <-tick.C:
			if buf.Buffered() == 0 {
				continue
			}
		}
		if buf.Flush() != nil || rc.Flush() != nil {
			return
		}
	}
}

func (a *API) agentMetrics(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Get("format") == "prometheus" {
		if a.cfg.Prometheus == nil {
			return failure(http.StatusUnsupportedMediaType, "Prometheus is not enabled since its retention time is not positive")
		}
		promhttp.HandlerFor(a.cfg.Prometheus, promhttp.HandlerOpts{}).ServeHTTP(w, r)
		return nil
	}
	summary, err := a.cfg.Metrics.DisplayMetrics(w, r)
	if err != nil {
		return err
	}
	a.writeJSON(w, r, summary)
	return nil
}

func (a *API) agentMetricsStream(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	rc.Flush() // the first metrics may be an interval away
	a.cfg.Metrics.Stream(r.Context(), &flushEncoder{a: a, w: w, rc: rc})
	return nil
}

// member is a gossip member as the API shows it.
type member struct {
	Name        string
	Addr        string
	Port        uint16
	Tags        map[string]string
	Status      int
	ProtocolMin uint8
	ProtocolMax uint8
	ProtocolCur uint8
	DelegateMin uint8
	DelegateMax uint8
	DelegateCur uint8
}

func memberOf(m serf.Member) member {
	return member{
		m.Name, m.Addr.String(), m.Port, m.Tags, int(m.Status),
		m.ProtocolMin, m.ProtocolMax, m.ProtocolCur, m.DelegateMin, m.DelegateMax, m.DelegateCur,
	}
}
