package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lictor/agent/config"
	"lictor/agent/logs"
	"lictor/tlsutil"
)

// ErrNotReloadable is in the error of a reload that asks for a change which
// needs a restart. The error's text names the settings.
var ErrNotReloadable = errors.New("settings that need a restart")

// Reload reads the configuration again and takes over what changed: TLS
// material and verify settings, limits, the log level, metric filters, node
// metadata. It is all or nothing: with a bad file, bad TLS material, or a
// change that needs a restart, the old settings stay in force and the error
// says why. Connections that the new rules would refuse are closed once the
// calls on them have ended. Reloads run one after the other.
func (a *Agent) Reload(context.Context) error {
	a.life.reload.Lock()
	defer a.life.reload.Unlock()
	if a.load == nil {
		return errors.New("this agent has no configuration to read again")
	}
	changed, err := a.reload()
	if err != nil {
		a.log.Error("reload refused, the old settings stay in force", "error", err)
		return err
	}
	a.log.Info("configuration reloaded", "changed", strings.Join(changed, ", "))
	return nil
}

func (a *Agent) reload() (changed []string, err error) {
	next, err := a.load()
	if err != nil {
		return nil, err
	}
	old := a.cfg.Load()
	changed, restart := config.Diff(old, next)
	if len(restart) > 0 {
		return nil, fmt.Errorf("%w: %s (nothing was changed)", ErrNotReloadable, strings.Join(restart, ", "))
	}
	level, err := logs.ParseLevel(next.Log.Level)
	if err != nil {
		return nil, fmt.Errorf("log_level: %w", err)
	}
	// The only step that can fail comes first; it checks everything before it
	// swaps.
	before := [...]tlsutil.Settings{a.tls.RPC(), a.tls.HTTPS()}
	if err := a.tls.Update(a.tlsConfig(next)); err != nil {
		return nil, err
	}
	if before[0].Material != a.tls.RPC().Material || before[1].Material != a.tls.HTTPS().Material {
		changed = append(changed, "certificates")
	}
	for _, w := range next.Warnings {
		a.log.Warn(w)
	}
	a.cfg.Store(next)
	a.log.SetLevel(level)
	a.metrics.reload(next.Telemetry)
	a.registry.SetNodeMeta(nodeMeta(next))
	a.registry.SetDiscardOutput(next.Health.DiscardOutput)
	a.registry.Reload(next.Services, next.Checks)
	a.watches.Replace(next.Watches)
	a.conns.SetCallTimeout(next.Limits.RPCClientTimeout)
	a.router.SetRate(next.Limits.RPCRate, next.Limits.RPCMaxBurst)
	a.api.SetMaxConnsPerClient(next.Limits.HTTPMaxConnsPerClient)
	if a.server != nil {
		if err := a.server.reload(old, next); err != nil {
			a.log.Warn("Raft goes on with its old settings", "error", err)
		}
	}
	a.conns.Recheck()
	if a.server != nil && before[0] != a.tls.RPC() {
		a.server.raft.CloseConns() // new ones are made under the new settings
	}
	a.api.Recheck()
	if err := a.retag(next); err != nil {
		a.log.Warn("the gossip tags still say what was true before the reload", "error", err)
	}
	return changed, nil
}

// recheckEvery is how often open connections are looked at for certificates that
// have expired since they were opened.
const recheckEvery = time.Minute

// recheck closes connections that would not be accepted any more, until ctx ends.
func (a *Agent) recheck(ctx context.Context) error {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if a.server != nil {
				a.server.rpc.Recheck()
			}
			a.api.Recheck()
		}
	}
}
