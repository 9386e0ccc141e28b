package fsm

import (
	"fmt"
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// maxDepth bounds how deep a body may be nested.
const maxDepth = 32

// maxInit is how much of a length that was only declared is allocated at once. A
// value that is longer is copied for each such piece of it.
const maxInit = 1 << 20

func newHandle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{}
	h.RawToString = true
	h.WriteExt = true
	h.MaxDepth = maxDepth
	h.MaxInitLen = maxInit
	h.Canonical = true // equal content, equal bytes
	h.ExplicitRelease = true
	return h
}

var handle = newHandle()

// buffer is what an encoder writes to; it needs no buffer of its own then.
type buffer struct{ b []byte }

func (o *buffer) Write(p []byte) (int, error)       { o.b = append(o.b, p...); return len(p), nil }
func (o *buffer) WriteByte(c byte) error            { o.b = append(o.b, c); return nil }
func (o *buffer) WriteString(s string) (int, error) { o.b = append(o.b, s...); return len(s), nil }

type encoder struct {
	out buffer
	enc *codec.Encoder
}

func newEncoder() *encoder {
	e := &encoder{}
	e.enc = codec.NewEncoder(&e.out, handle)
	return e
}

var (
	encoders = sync.Pool{New: func() any { return newEncoder() }}
	decoders = sync.Pool{New: func() any { return codec.NewDecoderBytes(nil, handle) }}
)

// encode appends v to b. An encoder that has failed is not used again.
func encode(b []byte, v any) (_ []byte, err error) {
	e := encoders.Get().(*encoder)
	e.out.b = b
	defer func() {
		e.out.b = nil
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if err == nil {
			encoders.Put(e)
		}
	}()
	e.enc.Reset(&e.out)
	if err := e.enc.Encode(v); err != nil {
		return nil, err
	}
	return e.out.b, nil
}

// decodeWhole decodes b, of which nothing may be left, into v, which keeps
// nothing of b.
func decodeWhole(b []byte, v any) (err error) {
	dec := decoders.Get().(*codec.Decoder)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if err == nil {
			dec.ResetBytes(nil)
			decoders.Put(dec)
		}
	}()
	dec.ResetBytes(b)
	if err := dec.Decode(v); err != nil {
		return err
	}
	if n := dec.NumBytesRead(); n != len(b) {
		return fmt.Errorf("%d bytes too many", len(b)-n)
	}
	return nil
}
