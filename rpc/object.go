package rpc

import "bufio"

// AppendObject appends v to b as one msgpack object in the dialect of the wire,
// for the protocols of the port that are not conversations.
func AppendObject(b []byte, v any) ([]byte, error) {
	w := getWire(nil)
	defer w.release()
	if err := w.encode(v); err != nil {
		return b, err
	}
	return append(b, w.out.b...), nil
}

// ReadObject reads one msgpack object of at most limit bytes and decodes it into
// v. What follows it stays in r. Nothing is allocated for lengths that the
// object declares before its bytes have come.
func ReadObject(r *bufio.Reader, limit int, v any) error {
	w := getWire(nil)
	defer w.release()
	w.sc.reset(limit, maxElements)
	var err error
	if w.body, err = readObject(r, w.body[:0], &w.sc, nil); err != nil {
		return unexpected(err)
	}
	return w.decode(w.body, v)
}
