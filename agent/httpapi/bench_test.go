//go:build unix

package httpapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
)

func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// get asks again and again over one connection and reports the CPU time of both
// ends.
func get(b *testing.B, url string) {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	one := func() {
		resp, err := client.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	one()
	start := cpuTime(b)
	for b.Loop() {
		one()
	}
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
}

const benchMembers = 50

func BenchmarkMembers(b *testing.B) {
	_, addr := serve(b, Config{Backend: newFake(b, benchMembers)}, false)
	get(b, "http://"+addr+"/v1/agent/members")
}

// BenchmarkMembersFloor writes the same bytes from a plain handler.
func BenchmarkMembersFloor(b *testing.B) {
	body, err := json.Marshal(shown(newFake(b, benchMembers).members))
	if err != nil {
		b.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}))
	defer srv.Close()
	get(b, srv.URL)
}
