//go:build unix

package script_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lictor/agent/script"
)

func sh(line string) []string { return []string{"/bin/sh", "-c", line} }

func TestRun(t *testing.T) {
	r, err := script.Command{Args: sh(`cat; echo "$X" >&2; exit 3`), Stdin: strings.NewReader("in "), Env: []string{"X=env"}, MaxOutput: 100}.Run(t.Context())
	if err != nil || r.Code != 3 || r.Output != "in env\n" {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := (script.Command{Args: []string{"/nonexistent/program"}}).Run(t.Context()); err == nil {
		t.Error("a program that is not there ran")
	}
	if r, err := (script.Command{Args: sh(`kill -9 $$`), MaxOutput: 1}).Run(t.Context()); err != nil || r.Code != -1 {
		t.Errorf("%+v %v", r, err)
	}
}

// The script starts a child that starts a child that outlives everything unless
// it is killed; the first line of a fifo says that it is there.
func TestTimeoutKillsGrandchildren(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	type outcome struct {
		r   script.Result
		err error
	}
	done := make(chan outcome)
	go func() {
		r, err := script.Command{Args: sh(fmt.Sprintf(`echo before; (sh -c 'echo $$ > %s; exec sleep 1000' & wait) & wait`, fifo)), MaxOutput: 100}.Run(ctx)
		done <- outcome{r, err}
	}()
	b, err := os.ReadFile(fifo)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	o := <-done
	if !errors.Is(o.err, context.Canceled) || o.r.Output != "before\n" {
		t.Errorf("%+v", o)
	}
	for gone := false; !gone; { // init, or whoever adopts it, reaps it in its own time
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		gone = err != nil && syscall.Kill(pid, 0) != nil || strings.Contains(string(stat), ") Z ")
		select {
		case <-t.Context().Done():
			t.Fatal("the grandchild lives")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestWhatAProgramLeavesRunningDoesNotHoldUs(t *testing.T) {
	r, err := script.Command{Args: sh(`sleep 1000 & echo $!`), MaxOutput: 100}.Run(t.Context())
	if err != nil || r.Code != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(r.Output))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("what it left running is not ours to end: %v", err)
	}
}

func TestOutputKeepsTheNewest(t *testing.T) {
	for _, tc := range []struct {
		writes []string
		want   string
	}{
		{[]string{"ab", "c"}, "abc"},
		{[]string{"abcd"}, "abcd"},
		{[]string{"ab", "cd", "e"}, "Captured 4 of 5 bytes\n...\nbcde"},
		{[]string{"abcdefgh"}, "Captured 4 of 8 bytes\n...\nefgh"},
		{[]string{"a", "abcdefgh"}, "Captured 4 of 9 bytes\n...\nefgh"},
		{[]string{"\xffab"}, "?ab"},
	} {
		o := script.NewOutput(4)
		for _, w := range tc.writes {
			if n, err := o.Write([]byte(w)); n != len(w) || err != nil {
				t.Fatal(n, err)
			}
		}
		if o.String() != tc.want {
			t.Errorf("%q: %q, want %q", tc.writes, o.String(), tc.want)
		}
	}
	big, err := script.Command{Args: sh(`head -c 3000000 /dev/zero | tr '\0' x`), MaxOutput: 4096}.Run(t.Context())
	if err != nil || len(big.Output) > 4200 || !strings.HasPrefix(big.Output, "Captured 4096 of 3000000 bytes") {
		t.Errorf("%d %v", len(big.Output), err)
	}
}
