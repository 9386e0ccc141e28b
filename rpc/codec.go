package rpc

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// maxInit is how much of a declared length is allocated at once: a value that is
// longer is copied for each such piece of it. The scanner has seen all of a
// message before it is decoded, so what is declared is there.
const maxInit = 1 << 20

// newHandle is the dialect of the wire: old raw forms only, times in their
// binary form, strings for raw values without a type.
func newHandle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{}
	h.RawToString = true
	h.WriteExt = false
	h.TimeNotBuiltin = true
	h.MaxDepth = maxDepth + 4
	h.MaxInitLen = maxInit
	h.MapType = reflect.TypeOf(map[string]any(nil))
	h.ExplicitRelease = true
	return h
}

var handle = newHandle()

// emptyMap is the body of an error and of a handler without a reply.
const emptyMap = 0x80

// outBuf is where messages are put together. Its methods are those the encoder
// uses without a buffer of its own.
type outBuf struct{ b []byte }

func (o *outBuf) Write(p []byte) (int, error)       { o.b = append(o.b, p...); return len(p), nil }
func (o *outBuf) WriteByte(c byte) error            { o.b = append(o.b, c); return nil }
func (o *outBuf) WriteString(s string) (int, error) { o.b = append(o.b, s...); return len(s), nil }

// wire is what one conversation needs to read and write messages: buffers and
// codec state, kept in a pool between conversations. One goroutine at a time.
type wireState struct {
	br   *bufio.Reader
	sc   scanner
	head []byte
	body []byte
	// remote is the error text of the last response header; a client's only.
	remote string
	out    outBuf
	enc    *codec.Encoder
	dec    *codec.Decoder
}

const (
	readBuffer = 4 << 10
	// keepBuffer is the largest buffer that goes back to the pool.
	keepBuffer = 64 << 10
)

var wirePool = sync.Pool{New: func() any {
	w := &wireState{br: bufio.NewReaderSize(nil, readBuffer)}
	w.enc = codec.NewEncoder(&w.out, handle)
	w.dec = codec.NewDecoderBytes(nil, handle)
	return w
}}

func getWire(r io.Reader) *wireState {
	w := wirePool.Get().(*wireState)
	w.br.Reset(r)
	return w
}

// release gives the state back; the caller must not use it again.
func (w *wireState) release() {
	w.br.Reset(nil)
	w.trim()
	wirePool.Put(w)
}

// trim lets go of buffers that one big message has made big.
func (w *wireState) trim() {
	if cap(w.head) > keepBuffer {
		w.head = nil
	}
	if cap(w.body) > keepBuffer {
		w.body = nil
	}
	if cap(w.out.b) > keepBuffer {
		w.out.b = nil
	}
	w.head, w.body, w.out.b = w.head[:0], w.body[:0], w.out.b[:0]
}

// encode appends v to the message being put together; after an error the
// message is as before.
func (w *wireState) encode(v any) (err error) {
	before := len(w.out.b)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if err != nil {
			w.out.b = w.out.b[:before]
			err = fmt.Errorf("rpc: encode %T: %w", v, err)
			w.enc = codec.NewEncoder(&w.out, handle)
		}
	}()
	if v == nil {
		w.out.b = append(w.out.b, emptyMap)
		return nil
	}
	w.enc.Reset(&w.out)
	return w.enc.Encode(v)
}

// decode decodes one object, which a scanner has passed, into v.
func (w *wireState) decode(b []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if err != nil {
			// The decoder's own text may quote what the peer sent.
			err = fmt.Errorf("rpc: decode %T: %q", v, clip(err.Error(), 128))
			w.dec = codec.NewDecoderBytes(nil, handle)
		}
	}()
	w.dec.ResetBytes(b)
	return w.dec.Decode(v)
}
