package edge

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestWatchFile_takesAChangeAndKeepsTheLastGood(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "definitions.json")
	write := func(text string) {
		t.Helper()
		next := path + ".next"
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	var current Definitions[string]
	core, logs := observer.New(zap.InfoLevel)
	file, err := WatchFile(path, zap.New(core), func(data []byte) error {
		if text := string(data); !strings.HasPrefix(text, "bad") {
			current.Set(&text)
			return nil
		}
		return errors.New("it is bad")
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := *current.Get(); got != "one" {
		t.Fatalf("at first %q", got)
	}
	write("two")
	until(t, func() bool { return *current.Get() == "two" })
	write("bad")
	until(t, func() bool { return logs.FilterLevelExact(zap.ErrorLevel).Len() == 1 })
	if got := *current.Get(); got != "two" {
		t.Errorf("a bad file put %q in force", got)
	}
	write("two") // as it was: nothing to take, and no longer a fault
	write("three")
	until(t, func() bool { return *current.Get() == "three" })
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if n := logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 1 {
		t.Errorf("the fault was said %d times", n)
	}
}

func TestWatchFile_refusesWhatOthersCanWrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "definitions.json")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := WatchFile(path, zap.NewNop(), func([]byte) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("got %v", err)
	}
}

func until(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not come")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
