package config

import "time"

const sessionTTLMin = 10 * time.Second

func (b *builder) raft() Raft {
	r := Raft{
		Multiplier:        b.num("performance.raft_multiplier"),
		SnapshotThreshold: b.atLeast("raft_snapshot_threshold", 1),
		SnapshotInterval:  b.positive("raft_snapshot_interval"),
		TrailingLogs:      b.atLeast("raft_trailing_logs", 1),
		PrevoteDisabled:   b.flag("raft_prevote_disabled", false),
		DisableLogCache:   b.flag("raft_logstore.disable_log_cache", false),
		SegmentSizeMB:     b.num("raft_logstore.wal.segment_size_mb"),
	}
	if r.Multiplier < 1 || r.Multiplier > 10 {
		b.errorf("%s must be 1 to 10", b.at("performance.raft_multiplier"))
	}
	if r.SegmentSizeMB < 1 || r.SegmentSizeMB > 1024 {
		b.errorf("%s must be 1 to 1024", b.at("raft_logstore.wal.segment_size_mb"))
	}
	if b.flag("server", false) {
		b.oneOf("raft_logstore.backend", "default", "boltdb", "wal")
		if b.str("raft_logstore.backend") == "boltdb" {
			b.warnf("%s: boltdb is not supported, the log is kept in wal", b.at("raft_logstore.backend"))
		}
	}
	return r
}

func (b *builder) autopilot() Autopilot {
	return Autopilot{
		CleanupDeadServers:      b.flag("autopilot.cleanup_dead_servers", true),
		LastContactThreshold:    b.positive("autopilot.last_contact_threshold"),
		MaxTrailingLogs:         b.atLeast("autopilot.max_trailing_logs", 0),
		MinQuorum:               b.atLeast("autopilot.min_quorum", 0),
		ServerStabilizationTime: b.duration("autopilot.server_stabilization_time"),
	}
}
