package fsm

import "lictor/rpc/wire"

// Data decodes the record: a type of the wire, or a struct of its own, to be
// written as JSON. It may be called only while Inspect calls see.
func (r Record) Data() (any, error) {
	switch r.kind {
	case recIndex, recTombstone:
		return decodeAs[indexRecord](r.body)
	case recNode:
		return decodeAs[wire.Node](r.body)
	case recService:
		return decodeAs[serviceRecord](r.body)
	case recCheck:
		return decodeAs[wire.HealthCheck](r.body)
	case recEntry:
		m, err := decodeAs[entryRecord](r.body)
		if err != nil {
			return nil, err
		}
		return &wire.DirEntry{
			Key: m.Key, Value: m.Value, Flags: m.Flags, LockIndex: m.LockIndex, Session: m.Session,
			RaftIndex: wire.RaftIndex{CreateIndex: m.CreateIndex, ModifyIndex: m.ModifyIdx},
		}, nil
	case recSession:
		return decodeAs[wire.Session](r.body)
	case recCoordinate:
		return decodeAs[coordinateRecord](r.body)
	case recAutopilot:
		return decodeAs[wire.AutopilotConfig](r.body)
	}
	return nil, nil // Inspect knows no other
}

func decodeAs[T any](body []byte) (*T, error) {
	m := new(T)
	return m, decodeWhole(body, m)
}
