package httpapi

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"lictor/agent/decode"
	"lictor/rpc/wire"
)

// duration is shown as text.
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// autopilotConfig is the configuration as the API shows it.
type autopilotConfig struct {
	CleanupDeadServers      bool
	LastContactThreshold    duration
	MaxTrailingLogs         uint64
	MinQuorum               uint
	ServerStabilizationTime duration
	RedundancyZoneTag       string
	DisableUpgradeMigration bool
	UpgradeVersionTag       string
	CreateIndex             uint64
	ModifyIndex             uint64
}

func (a *API) autopilotConfiguration(w http.ResponseWriter, r *request) error {
	if r.Method == http.MethodPut {
		return a.autopilotSet(w, r)
	}
	req := a.ofDatacenter(r)
	if err := a.options(r, plain, &req.QueryOptions); err != nil {
		return err
	}
	var c wire.AutopilotConfig
	if err := a.write(r, "Operator.AutopilotGetConfiguration", req, &c); err != nil {
		return err
	}
	a.writeJSON(w, r, autopilotConfig{
		c.CleanupDeadServers, duration(c.LastContactThreshold), c.MaxTrailingLogs, c.MinQuorum, duration(c.ServerStabilizationTime),
		c.RedundancyZoneTag, c.DisableUpgradeMigration, c.UpgradeVersionTag, c.CreateIndex, c.ModifyIndex,
	})
	return nil
}

// autopilotSet writes the whole configuration: what the body does not say is
// the default, not what was there.
func (a *API) autopilotSet(w http.ResponseWriter, r *request) error {
	req := &wire.AutopilotSetConfigRequest{Datacenter: r.dc(), WriteRequest: wire.WriteRequest{Token: r.token()}, Config: wire.AutopilotConfig{
		CleanupDeadServers: true, LastContactThreshold: 200 * time.Millisecond, MaxTrailingLogs: 250, ServerStabilizationTime: 10 * time.Second,
	}}
	c := &req.Config
	err := decodeFields(w, r, decode.Fields{
		"cleanupdeadservers": &c.CleanupDeadServers, "lastcontactthreshold": &c.LastContactThreshold,
		"maxtrailinglogs": uintField(&c.MaxTrailingLogs), "serverstabilizationtime": &c.ServerStabilizationTime,
		"minquorum": func(v any) error {
			var n uint64
			if err := uintField(&n)(v); err != nil {
				return err
			}
			if n > maxQuorum {
				return errors.New("is more than any cluster has")
			}
			c.MinQuorum = uint(n)
			return nil
		},
		"redundancyzonetag": &c.RedundancyZoneTag, "disableupgrademigration": &c.DisableUpgradeMigration,
		"upgradeversiontag": &c.UpgradeVersionTag, "createindex": ignore, "modifyindex": ignore,
	})
	if err != nil {
		return err
	}
	if r.q.has("cas") {
		index, err := strconv.ParseUint(r.q.get("cas"), 10, 64)
		if err != nil {
			return failure(http.StatusBadRequest, "Error parsing cas value: %.100s", err)
		}
		req.CAS, c.ModifyIndex = true, index
	}
	var done bool
	if err := a.write(r, "Operator.AutopilotSetConfiguration", req, &done); err != nil {
		return err
	}
	a.writeBool(w, r, done)
	return nil
}

// maxQuorum bounds min_quorum: more servers than anyone runs.
const maxQuorum = 1 << 16

// autopilotHealth answers 429 with the same body while the servers are not all
// well.
func (a *API) autopilotHealth(w http.ResponseWriter, r *request) error {
	req := a.ofDatacenter(r)
	if err := a.options(r, plain, &req.QueryOptions); err != nil {
		return err
	}
	var reply wire.AutopilotHealth
	if err := a.write(r, "Operator.ServerHealth", req, &reply); err != nil {
		return err
	}
	type shown struct {
		ID          string
		Name        string
		Address     string
		SerfStatus  string
		Version     string
		Leader      bool
		LastContact duration
		LastTerm    uint64
		LastIndex   uint64
		Healthy     bool
		Voter       bool
		StableSince time.Time
	}
	out := struct {
		Healthy          bool
		FailureTolerance int
		Servers          []shown
	}{reply.Healthy, reply.FailureTolerance, make([]shown, 0, len(reply.Servers))}
	for _, s := range reply.Servers {
		out.Servers = append(out.Servers, shown{
			s.ID, s.Name, s.Address, s.SerfStatus.String(), s.Version, s.Leader, duration(s.LastContact), s.LastTerm, s.LastIndex,
			s.Healthy, s.Voter, s.StableSince.UTC(),
		})
	}
	code := http.StatusOK
	if !reply.Healthy {
		code = http.StatusTooManyRequests
	}
	a.writeStatus(w, r, code, out)
	return nil
}

func (a *API) autopilotState(w http.ResponseWriter, r *request) error {
	req := a.ofDatacenter(r)
	if err := a.options(r, plain, &req.QueryOptions); err != nil {
		return err
	}
	var reply wire.AutopilotState
	if err := a.write(r, "Operator.AutopilotState", req, &reply); err != nil {
		return err
	}
	type shown struct {
		ID          string
		Name        string
		Address     string
		NodeStatus  string
		Version     string
		LastContact duration
		LastTerm    uint64
		LastIndex   uint64
		Healthy     bool
		StableSince time.Time
		ReadReplica bool
		Status      string
		Meta        map[string]string
		NodeType    string
	}
	servers := make(map[string]shown, len(reply.Servers))
	for id, s := range reply.Servers {
		servers[id] = shown{
			s.ID, s.Name, s.Address, s.NodeStatus, s.Version, duration(s.LastContact), s.LastTerm, s.LastIndex, s.Healthy,
			s.StableSince.UTC(), s.ReadReplica, s.Status, s.Meta, s.NodeType,
		}
	}
	a.writeJSON(w, r, struct {
		Healthy                    bool
		FailureTolerance           int
		OptimisticFailureTolerance int
		Servers                    map[string]shown
		Leader                     string
		Voters                     []string
	}{reply.Healthy, reply.FailureTolerance, reply.OptimisticFailureTolerance, servers, reply.Leader, reply.Voters})
	return nil
}
