package httpapi

import (
	"io"
	"net/http"
	"time"

	"lictor/rpc/wire"
)

const snapshotPath = "/v1/snapshot"

func (a *API) snapshot(w http.ResponseWriter, r *request) error {
	req := &wire.SnapshotRequest{Datacenter: r.dc(), Token: r.token(), Op: wire.SnapshotSave}
	if r.Method == http.MethodPut {
		req.Op = wire.SnapshotRestore
		body := &pacedBody{body: r.Body, rc: http.NewResponseController(w), timeout: a.cfg.StallTimeout}
		_, nothing, err := a.cfg.Backend.Snapshot(r.Context(), req, body)
		if err != nil {
			return rpcError(err)
		}
		nothing.Close() // it holds the connection to the server that has restored
		return empty(w, nil)
	}
	var o wire.QueryOptions
	if err := a.options(r, plain, &o); err != nil {
		return err
	}
	req.AllowStale = o.AllowStale
	meta, archive, err := a.cfg.Backend.Snapshot(r.Context(), req, nil)
	if err != nil {
		unknownMeta(w.Header())
		return rpcError(err)
	}
	defer archive.Close()
	h := w.Header()
	setMeta(h, plain, meta)
	h.Set("Content-Type", "application/x-gzip")
	w.WriteHeader(http.StatusOK)
	if _, err := io.Copy(w, archive); err != nil {
		a.log.Warn("a snapshot was not sent to its end", "to", r.RemoteAddr, "error", err)
		// Half an archive must not look like a whole one.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// pacedBody is a body of any length: each piece of it, not the whole, has a time
// by which it must come.
type pacedBody struct {
	body    io.Reader
	rc      *http.ResponseController
	timeout time.Duration
}

func (b *pacedBody) Read(p []byte) (int, error) {
	b.rc.SetReadDeadline(time.Now().Add(b.timeout))
	n, err := b.body.Read(p)
	if err != nil {
		b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}
