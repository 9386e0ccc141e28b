package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A leave goes on although the client that asked for it has hung up: an agent
// that stopped half-way would be seen as failed.
func TestLeaveOutlivesItsCaller(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	var ended error
	leave := onceError(func(ctx context.Context) error {
		close(begun)
		select {
		case <-finish:
		case <-ctx.Done():
		}
		ended = ctx.Err()
		return ended
	})
	ctx, hangUp := context.WithCancel(context.Background())
	first := make(chan error, 1)
	go func() { first <- leave(ctx) }()
	<-begun
	hangUp()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that hung up: %v", err)
	}
	close(finish)
	if err := leave(context.Background()); err != nil || ended != nil {
		t.Errorf("the second caller: %v; the leave itself: %v", err, ended)
	}
}

// A symlink where the pid file belongs is replaced, not followed.
func TestPidFileIsNotASymlink(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "pid")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path); err != nil {
		t.Skip(err)
	}
	if err := writePidFile(path); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(victim); string(b) != "precious" {
		t.Errorf("what the symlink led to holds %q", b)
	}
	if b, _ := os.ReadFile(path); strings.TrimSpace(string(b)) != strconv.Itoa(os.Getpid()) {
		t.Errorf("the pid file holds %q", b)
	}
}
