package agent

import (
	"context"
	"io/fs"
	"os"
	"time"

	"lictor/agent/config"
)

// autoReloadEvery is how often files are looked at (limits-and-defaults.md,
// section 13: changes are gathered for one second).
const autoReloadEvery = time.Second

// fileState is what changes when a file does.
type fileState struct {
	size int64
	mod  time.Time
	mode fs.FileMode
}

// watchedFiles are the files that a reload reads: the configuration and the TLS
// material it names.
func watchedFiles(cfg *config.Config) map[string]fileState {
	paths := append([]string(nil), cfg.RunTime.Files...)
	for _, s := range []config.TLSStanza{cfg.TLS.InternalRPC, cfg.TLS.HTTPS} {
		paths = append(paths, s.CAFile, s.CAPath, s.CertFile, s.KeyFile)
	}
	states := map[string]fileState{}
	for _, p := range paths {
		if p == "" {
			continue
		}
		if st, err := os.Stat(p); err == nil {
			states[p] = fileState{st.Size(), st.ModTime(), st.Mode()}
		} else {
			states[p] = fileState{}
		}
	}
	return states
}

// autoReload reloads when one of the files has changed and then stayed as it is
// for one round, so that a file half written is not read. A reload that is
// refused is not tried again before something changes.
func (a *Agent) autoReload(ctx context.Context) error {
	tick := time.NewTicker(autoReloadEvery)
	defer tick.Stop()
	loaded := watchedFiles(a.cfg.Load())
	last := loaded
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := watchedFiles(a.cfg.Load())
		settled := equalStates(now, last)
		last = now
		if equalStates(now, loaded) || !settled {
			continue
		}
		a.log.Info("configuration or certificate files have changed")
		_ = a.Reload(ctx) // it has logged why, and there is nobody else to tell
		loaded = watchedFiles(a.cfg.Load())
		last = loaded
	}
}

func equalStates(a, b map[string]fileState) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v.size != w.size || !v.mod.Equal(w.mod) || v.mode != w.mode {
			return false
		}
	}
	return true
}
