package rpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
)

// What a peer's bytes may be refused for before anything is decoded.
var (
	errTooLarge  = errors.New("rpc: message over the size limit")
	errTooDeep   = errors.New("rpc: message nested too deeply")
	errTooMany   = errors.New("rpc: message has too many elements")
	errMalformed = errors.New("rpc: malformed message")
)

const (
	maxDepth = 32
	// maxElements bounds the elements of one message, and with them what a short
	// message of empty elements can make the decoder allocate.
	maxElements = 128 << 10
	// maxReplyElements is the same for what a server answers.
	maxReplyElements = 16 << 20
)

// scanner finds the end of one msgpack object in a stream of bytes. It never
// allocates, never recurses, and refuses an object as soon as the lengths it
// declares cannot fit the limit, whether or not the bytes have come. The zero
// value is not ready; call reset.
type scanner struct {
	limit    uint64 // bytes the whole object may have
	elements uint64 // elements it may have
	used     uint64 // bytes seen
	pending  uint64 // objects still owed by all open containers: one byte each at least
	skip     uint64 // payload bytes of the current object still to come
	depth    int
	left     [maxDepth + 1]uint64 // objects still owed by each open container
	head     [9]byte              // a format byte and its length, while incomplete
	headLen  int
}

// reset prepares for one object of at most limit bytes and n elements.
func (s *scanner) reset(limit, n int) {
	s.limit, s.elements = uint64(limit), uint64(n)
	s.used, s.skip, s.depth, s.headLen = 0, 0, 0, 0
	s.pending = 1
	s.left[0] = 1
}

// feed consumes bytes of b that belong to the object and says how many, and
// whether the object is complete. It may be called again with what follows.
func (s *scanner) feed(b []byte) (n int, done bool, err error) {
	for n < len(b) {
		if s.skip > 0 {
			k := min(s.skip, uint64(len(b)-n))
			s.skip -= k
			n += int(k)
			if s.skip == 0 && s.pop() {
				return n, true, nil
			}
			continue
		}
		c := b[n]
		if s.headLen > 0 {
			c = s.head[0]
		}
		need := 1 + lengthBytes(c)
		h := b[n:]
		if s.headLen > 0 || len(h) < need {
			k := copy(s.head[s.headLen:need], h)
			s.headLen += k
			n += k
			if s.headLen < need {
				return n, false, nil
			}
			h = s.head[:need]
			s.headLen = 0
		} else {
			n += need
		}
		if err := s.object(c, h[1:need]); err != nil {
			return n, false, err
		}
		if s.skip == 0 && s.pop() {
			return n, true, nil
		}
	}
	return n, false, nil
}

// object takes in one format byte with its length bytes.
func (s *scanner) object(c byte, length []byte) error {
	if c == 0xc1 {
		return fmt.Errorf("%w: format byte 0xc1", errMalformed)
	}
	payload, children := extent(c, length)
	if s.elements == 0 {
		return errTooMany
	}
	s.elements--
	s.used += 1 + uint64(len(length))
	s.pending--
	s.left[s.depth]--
	// Every addend is below 2^34, so nothing overflows.
	if s.used+payload+children+s.pending > s.limit {
		return errTooLarge
	}
	s.used += payload
	s.skip = payload
	if children > 0 {
		if children > s.elements {
			return errTooMany
		}
		if s.depth == maxDepth {
			return errTooDeep
		}
		s.depth++
		s.left[s.depth] = children
		s.pending += children
	}
	return nil
}

// pop closes the containers that are complete and reports whether the whole
// object is.
func (s *scanner) pop() bool {
	for s.left[s.depth] == 0 {
		if s.depth == 0 {
			return true
		}
		s.depth--
	}
	return false
}

// lengthBytes is the number of bytes between the format byte c and the payload.
func lengthBytes(c byte) int {
	switch c {
	case 0xc4, 0xc7, 0xd9:
		return 1
	case 0xc5, 0xc8, 0xda, 0xdc, 0xde:
		return 2
	case 0xc6, 0xc9, 0xdb, 0xdd, 0xdf:
		return 4
	}
	return 0
}

// extent returns the payload bytes and the number of child objects that follow.
func extent(c byte, length []byte) (payload, children uint64) {
	var n uint64
	switch len(length) {
	case 1:
		n = uint64(length[0])
	case 2:
		n = uint64(binary.BigEndian.Uint16(length))
	case 4:
		n = uint64(binary.BigEndian.Uint32(length))
	}
	switch {
	case c < 0x80, c >= 0xe0: // fixint
		return 0, 0
	case c < 0x90: // fixmap
		return 0, 2 * uint64(c&0x0f)
	case c < 0xa0: // fixarray
		return 0, uint64(c & 0x0f)
	case c < 0xc0: // fixraw
		return uint64(c & 0x1f), 0
	}
	switch c {
	case 0xc4, 0xc5, 0xc6, 0xd9, 0xda, 0xdb: // bin, raw
		return n, 0
	case 0xc7, 0xc8, 0xc9: // ext: a type byte, then data
		return n + 1, 0
	case 0xcc, 0xd0:
		return 1, 0
	case 0xcd, 0xd1:
		return 2, 0
	case 0xca, 0xce, 0xd2:
		return 4, 0
	case 0xcb, 0xcf, 0xd3:
		return 8, 0
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // fixext
		return 1 + 1<<(c-0xd4), 0
	case 0xdc, 0xdd:
		return 0, n
	case 0xde, 0xdf:
		return 0, 2 * n
	}
	return 0, 0 // nil, false, true
}

// readObject appends exactly one object from br to dst. Memory grows with the
// bytes that have come, never with a length that was declared. beforeBlock, if
// not nil, runs once when the object is not complete in what br holds, before
// waiting for more; also where br holds nothing of it yet.
func readObject(br *bufio.Reader, dst []byte, sc *scanner, beforeBlock func()) ([]byte, error) {
	for {
		if br.Buffered() == 0 {
			if beforeBlock != nil {
				beforeBlock()
				beforeBlock = nil
			}
			if _, err := br.Peek(1); err != nil {
				return dst, err
			}
		}
		b, _ := br.Peek(br.Buffered())
		n, done, err := sc.feed(b)
		dst = append(dst, b[:n]...)
		br.Discard(n) // the bytes are buffered
		if done || err != nil {
			return dst, err
		}
	}
}

// header is a request or response header.
type header struct {
	method []byte // points into the buffer it was read from
	seq    uint64
	err    []byte
}

// parseHeader reads a header from one complete object. Unknown keys are skipped.
func parseHeader(b []byte) (h header, err error) {
	pairs, b, ok := mapLen(b)
	if !ok {
		return h, fmt.Errorf("%w: a header is a map", errMalformed)
	}
	for range pairs {
		key, rest, ok := rawBytes(b)
		if !ok {
			return h, fmt.Errorf("%w: a header's keys are strings", errMalformed)
		}
		b = rest
		switch string(key) {
		case "ServiceMethod":
			h.method, rest, ok = rawBytes(b)
		case "Error":
			h.err, rest, ok = rawBytes(b)
		case "Seq":
			h.seq, rest, ok = uintValue(b)
		default:
			rest, ok = skipObject(b)
		}
		if !ok {
			return h, fmt.Errorf("%w: header field %q has the wrong type", errMalformed, clip(string(key), 32))
		}
		b = rest
	}
	return h, nil
}

func mapLen(b []byte) (n int, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, b, false
	}
	switch c := b[0]; {
	case c&0xf0 == 0x80:
		return int(c & 0x0f), b[1:], true
	case c == 0xde && len(b) >= 3:
		return int(binary.BigEndian.Uint16(b[1:])), b[3:], true
	case c == 0xdf && len(b) >= 5:
		return int(binary.BigEndian.Uint32(b[1:])), b[5:], true
	}
	return 0, b, false
}

// rawBytes reads a string or byte string, or nil, which is the empty one.
func rawBytes(b []byte) (v, rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, b, false
	}
	c := b[0]
	if c == 0xc0 {
		return nil, b[1:], true
	}
	head := 1 + lengthBytes(c)
	raw := c&0xe0 == 0xa0 || c >= 0xc4 && c <= 0xc6 || c >= 0xd9 && c <= 0xdb
	if !raw || len(b) < head {
		return nil, b, false
	}
	n, _ := extent(c, b[1:head])
	if uint64(len(b)-head) < n {
		return nil, b, false
	}
	end := head + int(n)
	return b[head:end:end], b[end:], true
}

// uintValue reads a non-negative integer of any width.
func uintValue(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, b, false
	}
	c := b[0]
	if c < 0x80 {
		return uint64(c), b[1:], true
	}
	if c < 0xcc || c > 0xd3 {
		return 0, b, false
	}
	size := 1 << ((c - 0xcc) & 3)
	if len(b) < 1+size {
		return 0, b, false
	}
	for _, x := range b[1 : 1+size] {
		v = v<<8 | uint64(x)
	}
	if c >= 0xd0 && b[1]&0x80 != 0 {
		return 0, b, false
	}
	return v, b[1+size:], true
}

func skipObject(b []byte) (rest []byte, ok bool) {
	var sc scanner
	sc.reset(len(b), maxElements)
	n, done, err := sc.feed(b)
	return b[n:], done && err == nil
}

func appendRaw(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n < 1<<16:
		b = append(b, 0xda, byte(n>>8), byte(n))
	default:
		b = append(b, 0xdb, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, s...)
}

func appendUint(b []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(b, byte(v))
	case v < 1<<8:
		return append(b, 0xcc, byte(v))
	case v < 1<<16:
		return append(b, 0xcd, byte(v>>8), byte(v))
	case v < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

// appendRequestHeader and appendResponseHeader write a header the way the
// family's encoder does: keys sorted, old raw forms.
func appendRequestHeader(b []byte, method string, seq uint64) []byte {
	b = appendRaw(append(b, 0x82), "Seq")
	b = appendUint(b, seq)
	b = appendRaw(b, "ServiceMethod")
	return appendRaw(b, method)
}

func appendResponseHeader(b []byte, method string, seq uint64, errText string) []byte {
	b = appendRaw(append(b, 0x83), "Error")
	b = appendRaw(b, errText)
	b = appendRaw(b, "Seq")
	b = appendUint(b, seq)
	b = appendRaw(b, "ServiceMethod")
	return appendRaw(b, method)
}

// clip cuts s to at most n bytes.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}
