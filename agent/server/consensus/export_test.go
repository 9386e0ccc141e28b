package consensus

import "context"

// ApplyBytes is Apply with an entry that is encoded already, for state machines
// of tests.
func (n *Node) ApplyBytes(ctx context.Context, entry []byte) (any, error) { return n.apply(ctx, entry) }
