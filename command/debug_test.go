package command

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// debugAgent is an agent that is captured: its streams do not end by themselves.
// When each of waitFor was asked for, it calls then.
type debugAgent struct {
	pprof   bool
	waitFor []string
	then    func()

	mu    sync.Mutex
	asked []string
}

func (d *debugAgent) saw(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.waitFor, path) || slices.Contains(d.asked, path) {
		return
	}
	if d.asked = append(d.asked, path); len(d.asked) == len(d.waitFor) {
		d.then()
	}
}

func (d *debugAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	stream := func(text string) {
		fmt.Fprint(w, text)
		w.(http.Flusher).Flush()
		d.saw(r.URL.Path)
		<-r.Context().Done()
	}
	switch path := r.URL.Path; {
	case path == "/v1/agent/self":
		fmt.Fprint(w, `{"Config":{"NodeName":"n","Version":"0.1.0"},"DebugConfig":{"ACLTokens":{"ACLDefaultToken":"s3cret"},"EncryptKey":"s3cret","Encrypt":"s3cret","KeyFile":"/etc/key.pem","ACLTokenTTL":"30s","Tokens":["s3cret"],"Note":"the t0ken","EncryptVerify":true,"Tags":{"rpc_auth_key":"s3cret"}}}`)
	case path == "/v1/agent/host":
		fmt.Fprint(w, `{"Host":{"hostname":"h"}}`)
	case path == "/v1/agent/members":
		fmt.Fprint(w, `[{"Name":"n"}]`)
	case path == "/v1/operator/raft/configuration":
		http.Error(w, "no", http.StatusInternalServerError)
	case path == "/v1/agent/monitor":
		stream("a line with t0ken\n")
	case path == "/v1/agent/metrics/stream":
		stream(`{"Timestamp":"x"}`)
	case strings.HasPrefix(path, "/debug/pprof/") && r.URL.Query().Get("seconds") == "0":
		http.Error(w, "must be a positive integer", http.StatusBadRequest)
	case strings.HasPrefix(path, "/debug/pprof/") && d.pprof:
		if path == "/debug/pprof/profile" || path == "/debug/pprof/trace" {
			stream("profile")
			return
		}
		fmt.Fprint(w, "profile")
		d.saw(path)
	default:
		d.saw(path)
		http.NotFound(w, r)
	}
}

// untar reads an archive, all its files below one folder.
func untar(t *testing.T, path, folder string) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(h.Name, folder+"/")
		b, err := io.ReadAll(r)
		if !ok || err != nil || h.FileInfo().Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %o, %v", h.Name, h.Mode, err)
		}
		if !h.FileInfo().IsDir() {
			out[name] = string(b)
		}
	}
}

// debugRun interrupts the command once everything of waitFor was asked for and
// something has come into each of the files.
func debugRun(t *testing.T, d *debugAgent, files []string, args ...string) outcome {
	t.Helper()
	srv := httptest.NewServer(d)
	t.Cleanup(srv.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.then = func() {
		go func() {
			for _, name := range files {
				for ctx.Err() == nil {
					if info, err := os.Stat(name); err == nil && info.Size() > 0 {
						break
					}
					time.Sleep(time.Millisecond)
				}
			}
			cancel()
		}()
	}
	return lictorCtx(ctx, nil, "", map[string]string{"LICTOR_HTTP_ADDR": srv.URL, "LICTOR_HTTP_TOKEN": "t0ken"}, append([]string{"debug"}, args...)...)
}

func TestDebug(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out")
	d := &debugAgent{pprof: true, waitFor: []string{"/v1/agent/monitor", "/v1/agent/metrics/stream", "/debug/pprof/profile", "/debug/pprof/trace", "/debug/pprof/goroutine"}}
	var streams []string
	for _, name := range []string{"consul.log", "metrics.json", "profile.prof", "trace.out", "0s/goroutine.prof"} {
		streams = append(streams, filepath.Join(output, name))
	}
	got := debugRun(t, d, streams, "-output="+output)
	want := "==> Starting debugger and capturing static information...\n" +
		"     Agent Version: '0.1.0'\n          Interval: '30s'\n          Duration: '5m0s'\n            Output: '" + output + ".tar.gz'\n" +
		"           Capture: 'metrics, logs, pprof, host, agent, members'\n" +
		"==> Capturing dynamic information. It ends in 5m0s, or when interrupted.\n" +
		"Saved debug archive: " + output + ".tar.gz\n"
	if got.status != 0 || got.out != want || got.errOut != "[WARN] Unable to capture listpeers.json: Unexpected response code: 500 (no)\n" {
		t.Errorf("%+v", got)
	}
	files := untar(t, output+".tar.gz", "out")
	var names []string
	for name, text := range files {
		names = append(names, name)
		if strings.Contains(text, "s3cret") || strings.Contains(text, "t0ken") {
			t.Errorf("a secret in %s: %s", name, text)
		}
	}
	slices.Sort(names)
	if want := []string{"0s/goroutine.prof", "0s/heap.prof", "agent.json", "consul.log", "host.json", "index.json", "members.json", "metrics.json", "profile.prof", "trace.out"}; !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
	var index struct {
		Version, AgentVersion, Interval, Duration string
		Targets                                   []string
	}
	if err := json.Unmarshal([]byte(files["index.json"]), &index); err != nil || index.AgentVersion != "0.1.0" || index.Version == "" || index.Interval != "30s" || index.Duration != "5m0s" || len(index.Targets) != 6 {
		t.Errorf("index.json: %s", files["index.json"])
	}
	for _, part := range []string{`"KeyFile": "/etc/key.pem"`, `"ACLTokenTTL": "30s"`, `"EncryptVerify": true`, `"EncryptKey": "hidden"`, `"Note": "the hidden"`} {
		if !strings.Contains(files["agent.json"], part) {
			t.Errorf("no %s in %s", part, files["agent.json"])
		}
	}
	if files["consul.log"] != "a line with hidden\n" || files["metrics.json"] != `{"Timestamp":"x"}` || files["0s/heap.prof"] != "profile" {
		t.Errorf("%q", files)
	}
	if _, err := os.Stat(output); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	if got := debugRun(t, d, nil, "-output="+output); got.status != 1 || !strings.Contains(got.errOut, "already exists") {
		t.Errorf("%+v", got)
	}
}

func TestDebugOfAnAgentThatIsNotProfiled(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out")
	d := &debugAgent{waitFor: []string{"/debug/pprof/profile", "/debug/pprof/trace", "/debug/pprof/heap"}}
	got := debugRun(t, d, nil, "-capture=pprof", "-capture=cluster", "-archive=false", "-output="+output)
	if got.status != 0 || !strings.HasSuffix(got.out, "Saved debug directory: "+output+"\n") {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"profile.prof", "trace.out", "0s/heap.prof"} {
		if info, err := os.Stat(filepath.Join(output, name)); err == nil && info.Size() > 0 {
			t.Errorf("%s has %d bytes", name, info.Size())
		}
	}
	for _, name := range []string{"index.json", "members.json"} {
		if info, err := os.Stat(filepath.Join(output, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDebugMisuse(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"-duration=9s":                "Capture validation failed: duration must be longer than 10s\n",
		"-interval=4s":                "Capture validation failed: interval must be longer than 5s\n",
		"-duration=10s":               "Capture validation failed: duration (10s) must be longer than interval (30s)\n",
		"-capture=x":                  "Capture validation failed: unknown capture target: \"x\"\n",
		"-output=" + dir:              "Capture validation failed: could not create output directory: mkdir " + dir + ": file exists\n",
		"-http-addr=unix:///none.sck": "Error querying target agent: Get \"http://localhost/v1/agent/self\": dial unix /none.sck: connect: no such file or directory\nTried the HTTP API at unix:///none.sck. " + hintAPI + "\n",
	} {
		if got := debugRun(t, &debugAgent{}, nil, strings.Fields(args)...); got.status != 1 || got.out != "" || got.errOut != want {
			t.Errorf("%s: %+v, want %q", args, got, want)
		}
	}
	if got := debugRun(t, &debugAgent{}, nil, "x"); got.status != 1 || !strings.Contains(got.errOut, "Too many arguments") {
		t.Errorf("%+v", got)
	}
}
