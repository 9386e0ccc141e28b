package state

import "lictor/rpc/wire"

// AutopilotConfig returns autopilot's configuration, nil before the first.
func (s *Store) AutopilotConfig() (uint64, *wire.AutopilotConfig, error) {
	c := get[wire.AutopilotConfig](s.read(nil), tableAutopilot, byID, "")
	if c == nil {
		return 0, nil, nil
	}
	return c.ModifyIndex, c, nil
}

// AutopilotSetConfig replaces autopilot's configuration.
func (s *Store) AutopilotSetConfig(idx uint64, c *wire.AutopilotConfig) error {
	return s.write(func(w *Write) error { return w.AutopilotSetConfig(idx, c) })
}

// AutopilotSetConfig is Store.AutopilotSetConfig as part of w.
func (w *Write) AutopilotSetConfig(idx uint64, c *wire.AutopilotConfig) error {
	n := *c
	var created uint64
	if cur := get[wire.AutopilotConfig](w.Txn, tableAutopilot, byID, ""); cur != nil {
		created = cur.CreateIndex
	}
	stamp(&n.RaftIndex, created, idx)
	w.insert(tableAutopilot, &n)
	return nil
}

// AutopilotCASConfig is AutopilotSetConfig if the configuration's ModifyIndex is
// cidx, which is 0 for the first.
func (s *Store) AutopilotCASConfig(idx, cidx uint64, c *wire.AutopilotConfig) (bool, error) {
	return s.decide(func(w *Write) (bool, error) { return w.AutopilotCASConfig(idx, cidx, c) })
}

// AutopilotCASConfig is Store.AutopilotCASConfig as part of w.
func (w *Write) AutopilotCASConfig(idx, cidx uint64, c *wire.AutopilotConfig) (bool, error) {
	var have uint64
	if cur := get[wire.AutopilotConfig](w.Txn, tableAutopilot, byID, ""); cur != nil {
		have = cur.ModifyIndex
	}
	if have != cidx {
		return false, nil
	}
	return true, w.AutopilotSetConfig(idx, c)
}
