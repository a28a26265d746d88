package demo

import (
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
)

func (d *Demo) directoryFile() string { return filepath.Join(d.opts.Dir, "directory.json") }

// writeDirectory writes what every region knows of all tenants and sign-in names,
// and gives the path of the key under which the names are hashed.
func (d *Demo) writeDirectory() (keyFile string, err error) {
	keyFile, key, err := d.keys.secret("directory.key")
	if err != nil {
		return "", err
	}
	file := directory.File{Tenants: map[string]directory.Tenant{}, Logins: map[string]directory.Login{}}
	for _, t := range tenants {
		file.Tenants[t.id] = directory.Tenant{Home: t.home}
		for _, u := range t.users {
			file.Logins[directory.LoginHash(key, u.email)] = directory.Login{Home: t.home, Tenant: t.id}
		}
	}
	if _, err := directory.New(file, key); err != nil {
		return "", err
	}
	text, err := json.Marshal(file, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return "", err
	}
	return keyFile, os.WriteFile(d.directoryFile(), append(text, '\n'), 0o644)
}
