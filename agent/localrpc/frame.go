package localrpc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"reflect"
	"syscall"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// maxDepth is how deep maps and arrays may be nested. Requests need 3.
const maxDepth = 8

var (
	errTooLarge = errors.New("message is too large")
	errFields   = errors.New("message is not a map with the fields and types that belong there")
	errTooDeep  = errors.New("message is nested too deeply")

	aLongTimeAgo = time.Unix(1, 0)
)

// handle is Serf's dialect: strings and byte slices have types of their own.
var handle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{}
	h.WriteExt = true
	h.RawToString = true
	h.TimeNotBuiltin = true
	h.MaxDepth = maxDepth + 2
	h.MaxInitLen = 1 << 10
	h.MapType = reflect.TypeFor[map[string]any]()
	return h
}()

// encodeFrame encodes a header and, unless nil, a body.
func encodeFrame(head, body any) ([]byte, error) {
	var b []byte
	enc := codec.NewEncoderBytes(&b, handle)
	if err := enc.Encode(head); err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	if body == nil {
		return b, nil
	}
	var rest []byte
	enc.ResetBytes(&rest)
	if err := enc.Encode(body); err != nil {
		return nil, fmt.Errorf("encode body: %w", err)
	}
	return append(b, rest...), nil
}

// decode decodes one complete object. The error does not say what the decoder
// found wrong: it could quote a key.
func decode(b []byte, v any) error {
	if codec.NewDecoderBytes(b, handle).Decode(v) != nil {
		return errFields
	}
	return nil
}

// readObject appends one msgpack object to b as it is on the wire and returns
// it. At most limit bytes are read, and room is made only for bytes that have
// arrived: declared lengths allocate nothing. An error before the first byte is
// the reader's own; io.ErrUnexpectedEOF is an object cut short.
func readObject(br *bufio.Reader, b []byte, limit int) ([]byte, error) {
	start := len(b)
	var open [maxDepth]uint64 // elements still missing, by depth
	for depth := 0; ; {
		head, err := br.ReadByte()
		if err != nil {
			if len(b) > start && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return b, err
		}
		b = append(b, head)
		if len(b)-start > limit {
			return b, errTooLarge
		}
		form := formOf(head)
		size, elements := form.size, form.elements
		if form.lenBytes > 0 {
			if b, err = readBytes(br, b, uint64(form.lenBytes), limit-(len(b)-start)); err != nil {
				return b, err
			}
			n := bigEndian(b[len(b)-form.lenBytes:])
			size += n * form.perSize
			elements = n * form.perElement
		} else if form.bad {
			return b, fmt.Errorf("byte 0x%02x begins no msgpack object", head)
		}
		if b, err = readBytes(br, b, size, limit-(len(b)-start)); err != nil {
			return b, err
		}
		if elements > 0 {
			// Each element takes a byte at least.
			if elements > uint64(limit) {
				return b, errTooLarge
			}
			if depth == maxDepth {
				return b, errTooDeep
			}
			open[depth] = elements
			depth++
			continue
		}
		for depth > 0 {
			if open[depth-1]--; open[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			return b, nil
		}
	}
}

// form is how an object goes on after its first byte: lenBytes of a length n,
// then size + n*perSize bytes, then elements, or n*perElement, objects.
type form struct {
	size, elements      uint64
	lenBytes            int
	perSize, perElement uint64
	bad                 bool
}

func formOf(c byte) form {
	switch {
	case c <= 0x7f, c >= 0xe0: // small integers
		return form{}
	case c <= 0x8f:
		return form{elements: 2 * uint64(c&0x0f)}
	case c <= 0x9f:
		return form{elements: uint64(c & 0x0f)}
	case c <= 0xbf:
		return form{size: uint64(c & 0x1f)}
	}
	switch c {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return form{}
	case 0xc4, 0xd9: // binary, string
		return form{lenBytes: 1, perSize: 1}
	case 0xc5, 0xda:
		return form{lenBytes: 2, perSize: 1}
	case 0xc6, 0xdb:
		return form{lenBytes: 4, perSize: 1}
	case 0xc7, 0xc8, 0xc9: // extension: the length does not count its type
		return form{size: 1, lenBytes: 1 << (c - 0xc7), perSize: 1}
	case 0xca, 0xce, 0xd2:
		return form{size: 4}
	case 0xcb, 0xcf, 0xd3:
		return form{size: 8}
	case 0xcc, 0xd0:
		return form{size: 1}
	case 0xcd, 0xd1:
		return form{size: 2}
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // extensions of 1 to 16 bytes, and their type
		return form{size: 1 + 1<<(c-0xd4)}
	case 0xdc:
		return form{lenBytes: 2, perElement: 1}
	case 0xdd:
		return form{lenBytes: 4, perElement: 1}
	case 0xde:
		return form{lenBytes: 2, perElement: 2}
	case 0xdf:
		return form{lenBytes: 4, perElement: 2}
	}
	return form{bad: true} // 0xc1
}

func bigEndian(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// readBytes appends n bytes to b, in pieces no larger than the reader's buffer.
func readBytes(br *bufio.Reader, b []byte, n uint64, limit int) ([]byte, error) {
	if n > math.MaxInt32 || int(n) > limit {
		return b, errTooLarge
	}
	for n > 0 {
		piece := min(int(n), br.Size())
		p, err := br.Peek(piece)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return b, err
		}
		b = append(b, p...)
		if _, err := br.Discard(piece); err != nil {
			return b, err
		}
		n -= uint64(piece)
	}
	return b, nil
}

// isReset reports whether the other end went away in the rough way.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF)
}
