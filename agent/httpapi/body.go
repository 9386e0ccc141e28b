package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"lictor/agent/decode"
)

// Bodies and answers: how they are read and written, within their bounds.

// tooLarge refuses a body of n bytes, n < 0 where it is not known.
func tooLarge(n int64, row *compiled) error {
	text := "Request body"
	if n > 0 {
		text += "(" + strconv.FormatInt(n, 10) + " bytes)"
	}
	text += " too large, max size: " + strconv.FormatInt(row.limit, 10) + " bytes."
	if row.setting != "" {
		text += " See " + row.setting + " in the configuration of this agent."
	}
	return statusError{http.StatusRequestEntityTooLarge, text}
}

// limitBody bounds the body of a request by what its route allows.
func limitBody(w http.ResponseWriter, r *http.Request, row *compiled) error {
	if row.limit < 0 || r.Body == http.NoBody {
		return nil
	}
	if r.ContentLength > row.limit {
		w.Header().Set("Connection", "close")
		return tooLarge(r.ContentLength, row)
	}
	r.Body = &limitedBody{ReadCloser: http.MaxBytesReader(w, r.Body, row.limit), row: row}
	return nil
}

// limitedBody says what the limit is where one is exceeded.
type limitedBody struct {
	io.ReadCloser
	row *compiled
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		err = tooLarge(-1, b.row)
	}
	return n, err
}

// firstRead is how much room a body gets before any of it has come.
const firstRead = 4 << 10

// readBody reads the whole body, within its size and its time (see bound).
func readBody(w http.ResponseWriter, r *request) ([]byte, error) {
	if r.Body == http.NoBody {
		return nil, nil
	}
	b := make([]byte, 0, max(min(r.ContentLength+1, firstRead), bytes.MinRead))
	for {
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		var status statusError
		switch {
		case err == io.EOF:
			http.NewResponseController(w).SetReadDeadline(time.Time{})
			return b, nil
		case errors.As(err, &status):
			return nil, status
		case err != nil:
			return nil, failure(http.StatusBadRequest, "Request body could not be read")
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// decodeBody reads one JSON object into v; unknown fields are errors.
func decodeBody(w http.ResponseWriter, r *request, v any) error {
	b, err := readBody(w, r)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return failure(http.StatusBadRequest, "Request decode failed: %.200s", err)
	}
	if _, err := dec.Token(); err != io.EOF { // More would let a brace through
		return failure(http.StatusBadRequest, "Request decode failed: more than one JSON value")
	}
	return nil
}

// parseJSON reads one JSON value, its numbers as they were written.
func parseJSON(b []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

// decodeFailed is the refusal of a body, in the words of the family.
func decodeFailed(err error) error {
	text := strings.Replace(err.Error(), "unknown key", "json: unknown field", 1)
	return failure(http.StatusBadRequest, "Request decode failed: %.200s", text)
}

// readObject reads a body that is one JSON object.
func readObject(w http.ResponseWriter, r *request) (map[string]any, error) {
	b, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	v, err := parseJSON(b)
	if err != nil {
		return nil, decodeFailed(err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, decodeFailed(errors.New("the body must be a JSON object"))
	}
	return m, nil
}

// decodeFields reads a body that is one JSON object with the given keys.
func decodeFields(w http.ResponseWriter, r *request, fields decode.Fields) error {
	m, err := readObject(w, r)
	if err != nil {
		return err
	}
	if err := decode.Object(m, fields); err != nil {
		return decodeFailed(err)
	}
	return nil
}

// gzipAbove is the size from which an answer is compressed where the client
// asks for it (limits-and-defaults.md, section 6).
const gzipAbove = 1400

// Most clients ask for compression without a reason: the cheapest level.
var gzipWriters = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err)
	}
	return z
}}

// wantsGzip says whether an Accept-Encoding header takes gzip.
func wantsGzip(header string) bool {
	for header != "" {
		var part string
		part, header, _ = strings.Cut(header, ",")
		coding, q, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q = strings.ReplaceAll(q, " ", "")
			return strings.Trim(strings.TrimPrefix(q, "q="), "0.") != "" || q == ""
		}
	}
	return false
}

// Header values that never change. They are shared by all answers: net/http
// only reads them.
var (
	typeJSON        = []string{"application/json"}
	typeText        = []string{"text/plain; charset=utf-8"}
	varyEncoding    = []string{"Accept-Encoding"}
	noSniff         = []string{"nosniff"}
	policyAllow     = []string{"allow"}
	valueTrue       = []string{"true"}
	valueFalse      = []string{"false"}
	valueZero       = []string{"0"}
	valueOne        = []string{"1"}
	backendBlocking = []string{"blocking-query"}
	backendStream   = []string{"streaming"}
)

// writeBody answers with compact or indented JSON as it is.
func (a *API) writeBody(w http.ResponseWriter, r *request, code int, b []byte) {
	h := w.Header()
	h["Content-Type"] = typeJSON
	if len(b) < gzipAbove || !wantsGzip(r.Header.Get("Accept-Encoding")) {
		h["Content-Length"] = []string{strconv.Itoa(len(b))}
		w.WriteHeader(code)
		w.Write(b)
		return
	}
	h.Set("Content-Encoding", "gzip")
	w.WriteHeader(code)
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	z.Reset(w)
	z.Write(b)
	z.Close()
}

// pretty says whether an answer is indented.
func (a *API) pretty(r *request) bool { return a.cfg.Pretty || r.q.flag("pretty") }

// writeEncoded answers with JSON that has been put together in compact form.
func (a *API) writeEncoded(w http.ResponseWriter, r *request, code int, b []byte) {
	if a.pretty(r) {
		var out bytes.Buffer
		if err := json.Indent(&out, b, "", "    "); err != nil {
			writeError(w, err)
			return
		}
		out.WriteByte('\n')
		b = out.Bytes()
	}
	a.writeBody(w, r, code, b)
}

// writeJSON answers with v.
func (a *API) writeJSON(w http.ResponseWriter, r *request, v any) {
	a.writeStatus(w, r, http.StatusOK, v)
}

// writeStatus answers with v and a status.
func (a *API) writeStatus(w http.ResponseWriter, r *request, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		writeError(w, err)
		return
	}
	a.writeEncoded(w, r, code, b)
}

// buffers hold answers while they are put together.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// keepBuffer is the largest buffer that is kept for the next answer.
const keepBuffer = 256 << 10

// writeAppended answers with what fill appends.
func (a *API) writeAppended(w http.ResponseWriter, r *request, fill func([]byte) []byte) {
	p := buffers.Get().(*[]byte)
	*p = fill((*p)[:0])
	a.writeEncoded(w, r, http.StatusOK, *p)
	if cap(*p) <= keepBuffer {
		buffers.Put(p)
	}
}

// writeBool answers a write with whether it was done.
func (a *API) writeBool(w http.ResponseWriter, r *request, done bool) {
	a.writeEncoded(w, r, http.StatusOK, strconv.AppendBool(nil, done))
}

// empty answers a write that returns nothing.
func empty(w http.ResponseWriter, err error) error {
	if err == nil {
		w.Header()["Content-Type"] = typeText
		w.WriteHeader(http.StatusOK)
	}
	return err
}

func writeText(w http.ResponseWriter, code int, text string) {
	h := w.Header()
	h["Content-Type"] = typeText
	h["X-Content-Type-Options"] = noSniff
	w.WriteHeader(code)
	io.WriteString(w, text)
}
