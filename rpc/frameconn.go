package rpc

import (
	"encoding/binary"
	"net"
)

// frameConn lies under a yamux session and puts the header and the body of a
// data frame into one write. yamux writes them one after the other, which under
// TLS would be two records and two system calls for each message. Only the
// session's one sending goroutine writes.
type frameConn struct {
	net.Conn
	buf []byte // a header that waits for its body; empty else
}

// yamux frame header (wire.md, 1.4).
const (
	frameHeader   = 12
	frameTypeAt   = 1
	frameLengthAt = 8
	frameData     = 0
)

func (c *frameConn) Write(p []byte) (int, error) {
	if len(c.buf) == 0 {
		if len(p) == frameHeader && p[frameTypeAt] == frameData && binary.BigEndian.Uint32(p[frameLengthAt:]) > 0 {
			c.buf = append(c.buf, p...)
			return len(p), nil
		}
		return c.Conn.Write(p)
	}
	c.buf = append(c.buf, p...)
	n, err := c.Conn.Write(c.buf)
	n = max(n-frameHeader, 0)
	if cap(c.buf) > keepBuffer {
		c.buf = nil
	}
	c.buf = c.buf[:0]
	return n, err
}
