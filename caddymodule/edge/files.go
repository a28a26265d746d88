package edge

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// maxKeyFile bounds a key file: a mistaken path must not fill the memory.
const maxKeyFile = jwks.MaxBytes

// readPrivate reads a file that only its owner may read.
func readPrivate(path string) ([]byte, error) {
	return readBounded(path, func(info os.FileInfo) error {
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			return fmt.Errorf("%s has mode %04o: others could read the key; run chmod 600 %s", path, mode, path)
		}
		return nil
	})
}

// readPublic reads a file that only its owner may write: whoever can write keys
// into it can sign sessions.
func readPublic(path string) ([]byte, error) {
	return readBounded(path, func(info os.FileInfo) error {
		if mode := info.Mode().Perm(); mode&0o022 != 0 {
			return fmt.Errorf("%s has mode %04o: others could put keys into it; run chmod go-w %s", path, mode, path)
		}
		return nil
	})
}

func readBounded(path string, allowed func(os.FileInfo) error) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of the open file: a path can change its meaning
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if err := allowed(info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(data) > maxKeyFile {
		err = fmt.Errorf("%s is over %d bytes", path, maxKeyFile)
	}
	return data, err
}

// readEnv reads an environment variable that must be set.
func readEnv(name string) ([]byte, error) {
	value := os.Getenv(name)
	if value == "" {
		return nil, fmt.Errorf("environment variable %s is empty or not set", name)
	}
	return []byte(value), nil
}

// readSecret reads a secret from a file, without a newline at its end, or from
// an environment variable.
func readSecret(file, env string) ([]byte, error) {
	if file == "" {
		return readEnv(env)
	}
	data, err := readPrivate(file)
	return bytes.TrimRight(data, "\r\n"), err
}

// Secret reads secrets of a directive's own, from a file that only its owner may
// read or, where file is empty, from the environment variable env.
func Secret(file, env string) ([]byte, error) { return readSecret(file, env) }

// readKeySet reads public keys as a JWKS or as PEM.
func readKeySet(path string) (*jwks.Set, error) {
	data, err := readPublic(path)
	if err != nil {
		return nil, err
	}
	parse := jwks.Parse
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		parse = jwks.ParsePEM
	}
	set, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return set, nil
}
