package localrpc

import "context"

// access is who may use a command.
type access uint8

const (
	_      access = iota // a row that does not say is a mistake of ours
	open                 // everybody, also before authentication
	read                 // also others on this machine, over TCP; with an auth key, who has it
	change               // the agent's own user and root, and who has the auth key
)

// row is a command. Only newRow makes one.
type row struct {
	access access
	// body returns what to decode the request's body into, nil for no body.
	body func(*requestHeader) any
	run  func(ctx context.Context, c *session, head *requestHeader, body any) (any, error)
	// empty is the answer's body where there is nothing to say, nil where the
	// answer is a header alone. Clients expect the body of an error too.
	empty any
}

// none is the body of a request without one.
type none struct{}

// nothing is an empty map, as the body of an answer.
type nothing struct{}

// newRow makes a row of a handler. Its answer is a header alone if it is nil;
// see answering.
func newRow[Req any](a access, run func(context.Context, *session, *requestHeader, *Req) (any, error)) row {
	r := row{access: a, run: func(ctx context.Context, c *session, h *requestHeader, body any) (any, error) {
		req, _ := body.(*Req) // nil for none
		return run(ctx, c, h, req)
	}}
	if _, without := any(new(Req)).(*none); !without {
		r.body = func(*requestHeader) any { return new(Req) }
	}
	return r
}

// answering is r with a body in every answer.
func (r row) answering() row {
	r.empty = nothing{}
	return r
}

// familyBody is r with a request body only in the family's dialect.
func (r row) familyBody() row {
	body := r.body
	r.body = func(h *requestHeader) any {
		if h.Token == nil {
			return nil
		}
		return body(h)
	}
	return r
}

// table has a row for each command. It is never written to.
var table map[string]row

func init() { // not a literal: the handlers reach back to it
	table = map[string]row{
		cmdHandshake: newRow(open, handshake),
		cmdAuth:      newRow(open, auth),
		cmdStop:      newRow(read, stopStream),

		cmdMembers:         newRow(read, membersLAN).answering(),
		cmdMembersFiltered: newRow(read, membersFiltered).answering(),
		cmdMembersLAN:      newRow(read, membersLAN).answering(),
		cmdMembersWAN:      newRow(read, membersWAN).answering(),
		cmdGetCoordinate:   newRow(read, getCoordinate).answering(),
		cmdStats:           newRow(read, stats).answering(),

		cmdJoin:       newRow(change, join).answering(),
		cmdLeave:      newRow(change, leave),
		cmdForceLeave: newRow(change, forceLeave),
		cmdReload:     newRow(change, reload),
		cmdTags:       newRow(change, setTags),

		cmdEvent:     newRow(change, fireSerfEvent),
		cmdEventFire: newRow(change, fireEvent).answering(),
		cmdQuery:     newRow(change, query),
		cmdRespond:   newRow(change, respond),
		cmdStream:    newRow(change, stream), // payloads of events may be meant for few

		cmdMonitor: newRow(change, monitor), // the log is 0640 on disk

		cmdInstallKey: newRow(change, key).answering(),
		cmdUseKey:     newRow(change, key).answering(),
		cmdRemoveKey:  newRow(change, key).answering(),
		cmdListKeys:   newRow(change, key).answering().familyBody(),
		cmdKeyring:    newRow(change, keyring).answering(),
	}
}
