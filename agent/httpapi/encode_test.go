package httpapi

import (
	"bytes"
	"encoding/json"
	"testing"
	"testing/quick"

	"lictor/rpc/wire"
)

func TestMetaAsMarshalled(t *testing.T) {
	err := quick.Check(func(m wire.QueryMeta) bool {
		want, err := json.Marshal(m)
		got := append(appendMeta(nil, &m), '}')
		got[0] = '{'
		return err == nil && bytes.Equal(got, want)
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

func TestWantsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "deflate, GZIP": true, "gzip;q=0": false, "gzip; q=0.0": false, "gzip;q=0.5": true, "gzip;q=1": true,
		"xgzip": false, "identity": false, "br;q=1, gzip ; q = 1": true,
	} {
		if got := wantsGzip(header); got != want {
			t.Errorf("%q: %t", header, got)
		}
	}
}
