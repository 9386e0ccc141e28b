package logs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lictor/agent/logs"
)

func TestMonitorSeesItsOwnLevel(t *testing.T) {
	var out bytes.Buffer
	l, err := logs.New(logs.Options{Level: "warn", Output: &out})
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Monitor("DEBUG", false)
	if err != nil {
		t.Fatal(err)
	}
	l.Named("gossip").Debug("seen by the monitor", "peer", "10.0.0.1")
	line := <-s.C
	if !strings.Contains(line, "[DEBUG] agent.gossip: seen by the monitor: peer=10.0.0.1") {
		t.Errorf("monitor got %q", line)
	}
	if out.Len() != 0 {
		t.Errorf("a debug line reached the output at level warn: %q", out.String())
	}
	s.Close()
	s.Close()
	if _, open := <-s.C; open {
		t.Error("the stream is open after Close")
	}
	l.Warn("after the close")
	if !strings.Contains(out.String(), "Z [WARN]  agent: after the close") {
		t.Errorf("output is %q", out.String())
	}
}

func TestMonitorNeverBlocks(t *testing.T) {
	l, err := logs.New(logs.Options{Level: "INFO", Output: &bytes.Buffer{}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Monitor("INFO", true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2000 {
		l.Info("nobody reads this")
	}
	if got := s.Dropped(); got != 2000-512 {
		t.Errorf("dropped %d lines, want %d", got, 2000-512)
	}
}

func TestUnknownLevel(t *testing.T) {
	if _, err := logs.ParseLevel("zz"); err == nil || err.Error() != "Unknown log level: zz" {
		t.Errorf("error is %v", err)
	}
}

func TestFileRotates(t *testing.T) {
	dir := t.TempDir()
	f, err := logs.OpenFile(logs.FileOptions{Path: dir + "/", Bytes: 10, MaxFiles: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"one-one\n", "two-two\n", "three-3\n", "four-44\n", "five-55\n"} {
		if _, err := f.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("a write after Close succeeded")
	}
	b, err := os.ReadFile(filepath.Join(dir, "lictor.log"))
	if err != nil || string(b) != "five-55\n" {
		t.Errorf("the open file holds %q, %v", b, err)
	}
	old, _ := filepath.Glob(filepath.Join(dir, "lictor-*.log"))
	if len(old) != 2 {
		t.Errorf("kept %d rotated files, want 2: %v", len(old), old)
	}
}

func TestFileIsNotASymlink(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "agent.log")
	if err := os.Symlink(victim, path); err != nil {
		t.Skip(err)
	}
	if f, err := logs.OpenFile(logs.FileOptions{Path: path}); err == nil || !strings.Contains(err.Error(), "symlink") {
		f.Close()
		t.Errorf("a symlink was opened: %v", err)
	}
	if _, err := os.Stat(victim); err == nil {
		t.Error("what the symlink leads to was made")
	}
}
