package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func newDisk(t *testing.T, limit int64) *Disk {
	t.Helper()
	d := NewDisk(filepath.Join(t.TempDir(), "cache"))
	if err := d.Open(limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// bodyOf is a body of that text, in pieces of one size.
func bodyOf(text []byte, piece int) Body {
	return Body{Pieces: slices.Collect(slices.Chunk(text, piece)), Size: int64(len(text))}
}

func noise(size int) []byte {
	text := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = random.Read(text)
	return text
}

func (d *Disk) left(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(d.dir, bodies))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Whatever part of a body is read, it is what was written.
func TestDisk_readsWhatWasWritten(t *testing.T) {
	d := newDisk(t, 64<<20)
	texts := map[int][]byte{}
	for _, size := range []int{1, block - 1, block, block + 1, 3*block + 100} {
		texts[size] = noise(size)
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{1, block - 1, block, block + 1, 3*block + 100}).Draw(t, "size")
		text := texts[size]
		b, err := d.Keep(bodyOf(text, rapid.SampledFrom([]int{997, 4 << 10, block, 1 << 20}).Draw(t, "pieces")))
		if err != nil || b.Pieces != nil || b.Size != int64(size) || !b.Usable() || b.Held() < 0 || b.Held() > 1<<10 {
			t.Fatalf("%v: %+v", err, b)
		}
		first := rapid.IntRange(0, size-1).Draw(t, "first")
		last := rapid.IntRange(first, size-1).Draw(t, "last")
		var read []byte
		err = b.Section(int64(first), int64(last), func(p []byte) error {
			read = append(read, p...)
			return nil
		})
		if err != nil || !bytes.Equal(read, text[first:last+1]) {
			t.Fatalf("%d to %d of %d: %d bytes, %v", first, last, size, len(read), err)
		}
		refused := errors.New("the client has gone")
		if err := b.Section(0, int64(size-1), func([]byte) error { return refused }); err != refused {
			t.Fatal(err)
		}
	})
}

func TestDisk_theOldestThatIsNotUsedGivesWay(t *testing.T) {
	d := newDisk(t, 10*block)
	var all []Body
	for range 10 {
		b, err := d.Keep(bodyOf(noise(block), block))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	all[0].Usable()
	all[2].Usable()
	if _, err := d.Keep(bodyOf(noise(2*block), block)); err != nil {
		t.Fatal(err)
	}
	var gone []int
	for i, b := range all {
		if b.File.gone.Load() {
			gone = append(gone, i)
		}
	}
	if !slices.Equal(gone, []int{1, 3}) || all[1].Usable() {
		t.Errorf("%v are gone", gone)
	}
	if used, limit, files, failed := d.Usage(); used != 10*block || limit != 10*block || files != 9 || failed != 0 || len(d.left(t)) != 9 {
		t.Errorf("%d of %d bytes, %d files, %d failed, %d there", used, limit, files, failed, len(d.left(t)))
	}
	if _, err := d.Keep(bodyOf(noise(11*block), block)); !errors.Is(err, ErrNoRoom) {
		t.Errorf("more than there may be: %v", err)
	}
	if err := d.Open(3 * block); err != nil {
		t.Fatal(err)
	}
	if used, _, _, _ := d.Usage(); used > 3*block || len(d.left(t)) > 3 {
		t.Errorf("%d bytes in %d files after the bound was lowered", used, len(d.left(t)))
	}
	runtime.KeepAlive(all)
}

// What nobody holds is removed, without being asked.
func TestDisk_removesWhatNobodyHolds(t *testing.T) {
	d := newDisk(t, 1<<20)
	held, err := d.Keep(bodyOf(noise(block), block))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := d.Keep(bodyOf(noise(block), block)); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(20 * time.Second); len(d.left(t)) > 1; time.Sleep(time.Millisecond) {
		if runtime.GC(); time.Now().After(end) {
			t.Fatalf("%d files are left", len(d.left(t)))
		}
	}
	if !held.Usable() {
		t.Error("what is held is gone")
	}
	if used, _, files, failed := d.Usage(); used != block || files != 1 || failed != 0 {
		t.Errorf("%d bytes, %d files, %d failed", used, files, failed)
	}
}

func TestDisk_whatIsDamagedIsNotServed(t *testing.T) {
	d := newDisk(t, 1<<20)
	text := noise(3 * block)
	for name, damage := range map[string]func(path string) error{
		"a bit": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte{text[block+7] ^ 1}, block+7)
			return err
		},
		"the end":  func(path string) error { return os.Truncate(path, 2*block+5) },
		"all":      os.Remove,
		"a swap":   func(path string) error { return os.WriteFile(path, noise(3*block + 1)[:3*block], 0o600) },
		"no right": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		b, err := d.Keep(bodyOf(text, block))
		if err != nil {
			t.Fatal(err)
		}
		if err := damage(b.File.path); err != nil {
			t.Fatal(err)
		}
		good := true
		err = b.Section(0, b.Size-1, func(p []byte) error {
			good = good && bytes.Contains(text, p)
			return nil
		})
		if !errors.Is(err, ErrDamaged) || !good {
			t.Errorf("%s: %v, good %v", name, err, good)
		}
		_ = os.Remove(b.File.path)
	}
}

func TestDisk_isOneProcess(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"body-123": "left by a process that was killed", "other": "somebody's", "body": "too"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := NewDisk(dir)
	if _, err := d.Keep(bodyOf([]byte("x"), 1)); !errors.Is(err, ErrNotOpen) || len(d.left(t)) != 1 {
		t.Errorf("before it is opened: %v, %q", err, d.left(t))
	}
	if err := d.Open(1 << 20); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || fmt.Sprint(entries) != "[- body - lock - other]" {
		t.Errorf("%v %v", entries, err)
	}
	if err := NewDisk(dir).Open(1 << 20); err == nil || !strings.Contains(err.Error(), "of another process") {
		t.Errorf("another one: %v", err)
	}
	b, err := d.Keep(bodyOf([]byte("x"), 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil || b.Usable() || len(d.left(t)) != 0 {
		t.Errorf("closed: %v, %v, %q", err, b.Usable(), d.left(t))
	}
	again := NewDisk(dir)
	if err := errors.Join(again.Open(1<<20), again.Close()); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "other")
	if err := NewDisk(file).Open(1); err == nil {
		t.Error("a file is no directory")
	}
}

// Many write and read at once, on a disk that is too small for all: nothing that is
// read is another's.
func TestDisk_atOnce(t *testing.T) {
	d := newDisk(t, 20*block)
	var wait sync.WaitGroup
	var mu sync.Mutex
	var all []Body
	for i := range 8 {
		wait.Go(func() {
			for n := range 50 {
				text := bytes.Repeat([]byte{byte(i)}, 2*block+n)
				b, err := d.Keep(bodyOf(text, 10_000))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, b)
				other := all[rand.IntN(len(all))]
				mu.Unlock()
				if !other.Usable() {
					continue
				}
				var one byte
				first := true
				err = other.Section(0, other.Size-1, func(p []byte) error {
					if first {
						one, first = p[0], false
					}
					if bytes.Count(p, []byte{one}) != len(p) {
						return errors.New("two in one")
					}
					return nil
				})
				if err != nil && !errors.Is(err, os.ErrNotExist) { // it may give way meanwhile
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if used, limit, files, failed := d.Usage(); used > limit || files != len(d.left(t)) || failed != 0 {
		t.Errorf("%d of %d bytes, %d files of %d, %d failed", used, limit, files, len(d.left(t)), failed)
	}
	runtime.KeepAlive(all)
}
