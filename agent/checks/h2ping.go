package checks

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"lictor/rpc/wire"
)

// newH2Ping passes when the target answers an HTTP/2 ping.
func newH2Ping(d *Definition, o Options) (Check, error) {
	what := "HTTP2 ping " + d.H2Ping
	return newPeriodic(d, o, networkTimeout, func(ctx context.Context) (string, string) {
		var tc *tls.Config
		if d.H2PingUseTLS {
			tc = o.TLS(d.TLSServerName, d.TLSSkipVerify)
			tc.NextProtos = []string{"h2"}
		}
		conn, err := dial(ctx, "tcp", d.H2Ping, tc)
		if err != nil {
			return d.failure(ctx, what, err)
		}
		defer conn.Close()
		if err := h2Ping(conn); err != nil {
			return d.failure(ctx, what, err)
		}
		return wire.HealthPassing, what + ": Success"
	}), nil
}

// The little of HTTP/2 (RFC 9113) that a ping needs.
const (
	h2Preface  = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	h2Settings = 0x4
	h2PingType = 0x6
	h2GoAway   = 0x7
	h2Ack      = 0x1
	h2Header   = 9        // bytes before a frame: length (3), type, flags, stream
	h2MaxFrame = 16 << 10 // the most that a target may send unasked
)

// h2Ping says hello, pings and waits for the answer. The deadline of the
// connection bounds it.
func h2Ping(conn io.ReadWriter) error {
	var data [8]byte
	_, _ = rand.Read(data[:])
	hello := h2Frame([]byte(h2Preface), h2Settings, 0, nil)
	if _, err := conn.Write(h2Frame(hello, h2PingType, 0, data[:])); err != nil {
		return err
	}
	head, body := make([]byte, h2Header), make([]byte, h2MaxFrame)
	for {
		if _, err := io.ReadFull(conn, head); err != nil {
			return fmt.Errorf("no HTTP/2 answer: %w", err)
		}
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if length > h2MaxFrame {
			return errors.New("the target does not speak HTTP/2")
		}
		if _, err := io.ReadFull(conn, body[:length]); err != nil {
			return fmt.Errorf("no HTTP/2 answer: %w", err)
		}
		kind, ack := head[3], head[4]&h2Ack != 0
		switch {
		case kind == h2Settings && !ack:
			if _, err := conn.Write(h2Frame(nil, h2Settings, h2Ack, nil)); err != nil {
				return err
			}
		case kind == h2PingType && ack && length == len(data) && [8]byte(body) == data:
			return nil
		case kind == h2GoAway && length >= 8:
			return fmt.Errorf("the target ends the connection with code %d", binary.BigEndian.Uint32(body[4:]))
		}
	}
}

// h2Frame appends one frame of the connection itself.
func h2Frame(b []byte, kind, flags byte, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags, 0, 0, 0, 0)
	return append(b, payload...)
}
