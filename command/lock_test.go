//go:build unix

package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
)

func lock(ctx context.Context, f *fakeKV, stdin string, args ...string) outcome {
	return lictorCtx(ctx, nil, stdin, map[string]string{"LICTOR_HTTP_ADDR": f.addr}, append([]string{"lock"}, args...)...)
}

func TestLock(t *testing.T) {
	const verbose = "Setting up lock at path: p/.lock\nAttempting lock acquisition\nStarting handler\nChild terminated, releasing lock\nCleanup succeeded\n"
	for _, tt := range []struct {
		name    string
		args    []string
		status  int
		out     string // without -verbose lines
		errOut  string
		session string
	}{
		{"runs", []string{"p", "echo $LICTOR_LOCK_HELD $CONSUL_LOCK_HELD"}, 0, verbose + "true true\n", "", "Lictor lock for 'echo' at 'p' 15s release"},
		{"no shell", []string{"-shell=false", "p", "echo", "$HOME", "a  b"}, 0, verbose + "$HOME a  b\n", "", "Lictor lock for 'echo' at 'p' 15s release"},
		{"stdin", []string{"-pass-stdin", "p", "cat"}, 0, verbose + "piped", "", "Lictor lock for 'cat' at 'p' 15s release"},
		{"named", []string{"-name=mine", "p", "true"}, 0, verbose, "", "mine 15s release"},
		{"fails", []string{"p", "exit 7"}, 0, verbose, "Error running handler: exit status 7\n", "Lictor lock for 'exit' at 'p' 15s release"},
		{"fails, and so do we", []string{"-child-exit-code", "p", "exit 7"}, 2, verbose, "Error running handler: exit status 7\n", "Lictor lock for 'exit' at 'p' 15s release"},
		{"no such program", []string{"-shell=false", "p", "/nonexistent"}, 1, verbose, "Error running handler: fork/exec /nonexistent: no such file or directory\n", "Lictor lock for '/nonexistent' at 'p' 15s release"},
		{"semaphore", []string{"-n=2", "p", "true"}, 0, strings.Replace(verbose, "lock at path: p/.lock", "semaphore (limit 2) at prefix: p", 1), "", "Lictor lock for 'true' at 'p' 15s delete"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serveKV(t)
			got := lock(t.Context(), f, "piped", append([]string{"-verbose"}, tt.args...)...)
			if got.status != tt.status || got.out != tt.out || got.errOut != tt.errOut {
				t.Errorf("%+v", got)
			}
			if keys, sessions := f.state(); len(keys) > 0 || len(sessions) > 0 {
				t.Errorf("left behind: %v %v", keys, sessions)
			}
			if !slices.Equal(f.made, []string{tt.session}) {
				t.Errorf("sessions %q, want %q", f.made, tt.session)
			}
		})
	}
}

func TestLockMisuse(t *testing.T) {
	for args, want := range map[string]string{
		"p":                  "Key prefix and child command must be specified",
		"-n=0 p true":        "Lock holder limit must be positive",
		"-timeout=-1s p x":   "may be negative",
		"-monitor-retry=x p": "invalid value",
	} {
		got := lock(t.Context(), serveKV(t), "", words(args)...)
		if got.status != 1 || !strings.Contains(got.errOut, want) {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

func TestLockThatSomebodyElseHolds(t *testing.T) {
	f := serveKV(t)
	f.put(&api.KVPair{Key: "p/.lock", Flags: api.LockFlagValue, Session: "theirs"})
	if got := lock(t.Context(), f, "", "-timeout=1ms", "p", "echo ran"); got.status != 1 || got.out != "" || got.errOut != "Lock acquisition failed: it was not free within 1ms\n" {
		t.Errorf("%+v", got)
	}
	f.put(&api.KVPair{Key: "q/.lock", Flags: 1})
	if got := lock(t.Context(), f, "", "q", "echo ran"); got.status != 1 || got.out != "" || !strings.Contains(got.errOut, "Existing key does not match lock use") {
		t.Errorf("%+v", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan outcome)
	go func() { done <- lock(ctx, f, "", "p", "echo ran") }()
	f.hasSession(t)
	cancel()
	if got := <-done; got.status != 1 || got.out != "" || got.errOut != "Shutdown triggered during lock acquisition\n" {
		t.Errorf("%+v", got)
	}
	if _, sessions := f.state(); len(sessions) > 0 {
		t.Errorf("left behind: %v", sessions)
	}
}

// family is a shell line that says into a fifo which process its grandchild is,
// and outlives everything but a signal.
func family(t *testing.T) (line string, grandchild func() int) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("(sh -c 'echo $$ > %s; exec sleep 1000' & wait) & wait", fifo), func() int {
		b, err := os.ReadFile(fifo)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
}

// isGone waits until a process has ended.
func isGone(t *testing.T, pid int) {
	t.Helper()
	for !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(stat), ") Z ") {
			return // whoever adopted it has not looked yet
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the grandchild lives")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestLostLockEndsTheChild(t *testing.T) {
	for _, args := range [][]string{{"p"}, {"-n=2", "p"}} {
		f := serveKV(t)
		line, grandchild := family(t)
		done := make(chan outcome)
		go func() { done <- lock(t.Context(), f, "", append(args, line)...) }()
		pid := grandchild()
		_, sessions := f.state()
		f.destroy(sessions[0])
		got := <-done
		if got.status != 1 || !strings.HasPrefix(got.errOut, "Lock lost, the child was ended\n") {
			t.Errorf("%v: %+v", args, got)
		}
		isGone(t, pid)
	}
}

func TestInterruptedLockEndsTheChildAndReleases(t *testing.T) {
	f := serveKV(t)
	line, grandchild := family(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan outcome)
	go func() { done <- lock(ctx, f, "", "-verbose", "p", line) }()
	pid := grandchild()
	cancel()
	got := <-done
	if got.status != 1 || got.errOut != "Shutdown triggered, the child was ended\n" || !strings.HasSuffix(got.out, "releasing lock\nCleanup succeeded\n") {
		t.Errorf("%+v", got)
	}
	isGone(t, pid)
	if keys, sessions := f.state(); len(keys) > 0 || len(sessions) > 0 {
		t.Errorf("left behind: %v %v", keys, sessions)
	}
}

// A child that does not listen to SIGTERM is killed; the test shortens nothing,
// so it is the one that takes as long as the grace.
func TestChildThatDoesNotListenIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as the grace")
	}
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() {
		env := &environment{stdout: os.Stdout, stderr: os.Stderr}
		done <- child{args: []string{"/bin/sh", "-c", "trap '' TERM; echo $$ > " + fifo + "; while :; do sleep 1000; done"}}.run(ctx, env)
	}()
	b, err := os.ReadFile(fifo)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err == nil || err.Error() != "signal: killed" {
		t.Errorf("it ended with %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	isGone(t, pid)
}

func TestWatchRetriesAndBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type answer struct {
			data  any
			index uint64
			err   error
		}
		answers := []answer{
			{"a", 5, nil}, {"a", 5, nil}, {"a", 6, nil}, // the same, and the same with another index
			{err: errors.New("1")}, {err: errors.New("2")}, {err: errors.New("3")},
			{"b", 9, nil}, {"c", 2, nil}, {"d", 3, nil},
		}
		for range 7 {
			answers = append(answers, answer{err: errors.New("again")})
		}
		var asked []uint64
		var waits []time.Duration
		var seen []string
		ctx, cancel := context.WithCancel(t.Context())
		w := &watcher{
			read: func(index uint64) (any, uint64, error) {
				asked = append(asked, index)
				if len(answers) == 0 {
					cancel()
					return nil, 0, ctx.Err()
				}
				a := answers[0]
				answers = answers[1:]
				return a.data, a.index, a.err
			},
			failed: func(_ error, wait time.Duration) { waits = append(waits, wait/time.Second) },
		}
		began := time.Now()
		err := w.follow(ctx, func(index uint64, data []byte) error {
			seen = append(seen, fmt.Sprintf("%d %s", index, data))
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if want := []string{"5 \"a\"\n", "9 \"b\"\n", "2 \"c\"\n", "3 \"d\"\n"}; !slices.Equal(seen, want) {
			t.Errorf("seen %q, want %q", seen, want)
		}
		if want := []uint64{0, 5, 5, 6, 6, 6, 6, 9, 0}; !slices.Equal(asked[:len(want)], want) {
			t.Errorf("asked for %v, want %v", asked, want)
		}
		if want := []time.Duration{5, 20, 45, 5, 20, 45, 80, 125, 180, 180}; !slices.Equal(waits, want) {
			t.Errorf("waited %v, want %v", waits, want)
		}
		if d := time.Since(began); d != 705*time.Second {
			t.Errorf("it took %s", d)
		}
	})
}

func TestWatchEndsWithItsChild(t *testing.T) {
	w := &watcher{read: func(uint64) (any, uint64, error) { return "a", 5, nil }}
	boom := errors.New("boom")
	if err := w.follow(t.Context(), func(uint64, []byte) error { return boom }); !errors.Is(err, boom) {
		t.Error(err)
	}
}

func TestWatchRunsItsChildForEachChange(t *testing.T) {
	f := serveKV(t)
	f.put(&api.KVPair{Key: "k", Value: []byte("one")}) // index 2
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan outcome)
	go func() {
		done <- lictorCtx(ctx, nil, "", map[string]string{"CONSUL_HTTP_ADDR": f.addr},
			"watch", "-type=key", "-key=k", "cat; echo $CONSUL_INDEX $LICTOR_INDEX; echo x > "+fifo+"; exit 3")
	}()
	read := func() {
		t.Helper()
		if _, err := os.ReadFile(fifo); err != nil {
			t.Fatal(err)
		}
	}
	read()
	f.put(&api.KVPair{Key: "k", Value: []byte("two")}) // index 3
	read()
	cancel()
	got := <-done
	entry := func(index int, value string) string {
		return fmt.Sprintf(`{"Key":"k","CreateIndex":0,"ModifyIndex":%d,"LockIndex":0,"Flags":0,"Value":"%s","Session":""}`, index, value) + fmt.Sprintf("\n%d %d\n", index, index)
	}
	if want := entry(2, "b25l") + entry(3, "dHdv"); got.status != 0 || got.out != want {
		t.Errorf("%+v, want %q", got, want)
	}
	if !strings.HasPrefix(got.errOut, "Error executing handler: exit status 3\n") {
		t.Errorf("errors %q", got.errOut)
	}
}
