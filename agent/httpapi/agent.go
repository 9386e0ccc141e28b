package httpapi

import (
	"bufio"
	"net/http"
	"net/netip"
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

const (
	joinPath       = "/v1/agent/join/"
	forceLeavePath = "/v1/agent/force-leave/"
)

func (a *API) agentSelf(w http.ResponseWriter, r *request) error {
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

func (a *API) agentVersion(w http.ResponseWriter, r *request) error {
	a.writeJSON(w, r, map[string]string{
		"SHA": version.Get().Revision, "BuildDate": version.Get().BuildDate, "HumanVersion": version.String(), "FIPS": "",
	})
	return nil
}

func (a *API) agentJoin(w http.ResponseWriter, r *request) error {
	addr, err := r.name(joinPath, "Missing address")
	if err != nil {
		return err
	}
	_, err = a.cfg.Backend.Join(r.Context(), []string{addr}, r.q.flag("wan"))
	return empty(w, err)
}

func (a *API) agentLeave(w http.ResponseWriter, r *request) error {
	return empty(w, a.cfg.Backend.Leave(r.Context()))
}

func (a *API) agentForceLeave(w http.ResponseWriter, r *request) error {
	node, err := r.name(forceLeavePath, "Missing node name")
	if err != nil {
		return err
	}
	return empty(w, a.cfg.Backend.ForceLeave(node, r.q.flag("prune"), r.q.flag("wan")))
}

func (a *API) agentReload(w http.ResponseWriter, r *request) error {
	return empty(w, a.cfg.Backend.Reload(r.Context()))
}

// monitorFlush is how long a log line may wait to be sent.
const monitorFlush = 200 * time.Millisecond

func (a *API) agentMonitor(w http.ResponseWriter, r *request) error {
	level := r.q.get("loglevel")
	if level == "" {
		level = "INFO"
	}
	stream, err := a.cfg.Backend.Monitor(level, r.q.flag("logjson"))
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

func copyLog(r *request, w http.ResponseWriter, rc *http.ResponseController, stream *logs.Stream) {
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

func (a *API) agentMetrics(w http.ResponseWriter, r *request) error {
	if r.q.get("format") == "prometheus" {
		if a.cfg.Prometheus == nil {
			return failure(http.StatusUnsupportedMediaType, "Prometheus is not enabled since its retention time is not positive")
		}
		promhttp.HandlerFor(a.cfg.Prometheus, promhttp.HandlerOpts{}).ServeHTTP(w, r.Request)
		return nil
	}
	summary, err := a.cfg.Metrics.DisplayMetrics(w, r.Request)
	if err != nil {
		return err
	}
	a.writeJSON(w, r, summary)
	return nil
}

func (a *API) agentMetricsStream(w http.ResponseWriter, r *request) error {
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
