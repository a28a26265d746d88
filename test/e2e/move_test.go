package e2e

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/gatehouse-edge/gatehouse/handoff"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/accounts"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/customers"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/directory"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/feed"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/postgres"
	"github.com/gatehouse-edge/gatehouse/regionalsvc/tenancy"
)

// enrolIn has tenant, of this test alone, in region too, with one customer there by
// whose name one sees who answers.
func enrolIn(t *testing.T, region *demo.Region, tenant string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: region.Database, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db := tenancy.New(pool)
	if err := db.Enroll(t.Context(), tenancy.Tenant{ID: tenant, Name: tenant, Currency: "USD"}); err != nil {
		t.Fatal(err)
	}
	if _, err := customers.New(db).Add(t.Context(), handoff.Identity{Tenant: tenant}, "as "+region.Region+" knows it"); err != nil {
		t.Fatal(err)
	}
	return pool
}

// liveDirectory is eu's, as another process of it would have it.
func liveDirectory(t *testing.T, pool *pgxpool.Pool) *directory.Live {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(stateDir, "keys", "directory.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	file, err := directory.Load(filepath.Join(stateDir, "directory.json"), key)
	if err != nil {
		t.Fatal(err)
	}
	live, err := directory.Open(t.Context(), file, "eu", pool, feed.NewOutbox("eu", 24*time.Hour), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return live
}

// A tenant that moved is followed by every POP, without a new login, and no
// write of it is taken where it was.
func TestMove_isFollowedByEveryPOPWithoutANewLogin(t *testing.T) {
	initech := fmt.Sprintf("initech-%d", newSums())
	pool := enrolIn(t, topology.Regions[0], initech)
	enrolIn(t, topology.Regions[1], initech)
	known := liveDirectory(t, pool)
	tom := "tom@" + initech + ".example"
	if _, err := accounts.Create(t.Context(), tenancy.New(pool), accounts.NewUser{Tenant: initech, Email: tom, Password: demo.Password}); err != nil {
		t.Fatal(err)
	}
	if err := known.Add(t.Context(), initech); err != nil {
		t.Fatal(err)
	}
	if err := known.Enter(t.Context(), tom, initech); err != nil {
		t.Fatal(err)
	}
	var b *browser
	await(t, "tom's login", func() bool {
		b = visit(iad())
		a := b.post(t, "/login", map[string]string{"email": tom, "password": demo.Password})
		if a.status == http.StatusOK {
			b = login(t, iad(), tom)
		}
		return a.status == http.StatusOK
	})
	answers := func(p *demo.POP) string {
		a := b.at(p).get(t, "/api/customers")
		if a.status != http.StatusOK {
			return a.String()
		}
		var names []string
		for _, c := range decode[page[customer]](t, a).Items {
			names = append(names, c.Name)
		}
		return strings.Join(names, ", ")
	}
	for _, region := range []string{"us", "eu", "us"} {
		if region == "eu" { // us decides, since it is at home there
			if _, err := liveIn(t, 1).Move(t.Context(), initech, region); err != nil {
				t.Fatal(err)
			}
		} else {
			for _, p := range topology.POPs {
				await(t, "eu at "+p.POP, func() bool { return answers(p) == "as eu knows it" })
			}
			await(t, "eu to know that it is its own", func() bool {
				_, err := known.Move(t.Context(), initech, region)
				return err == nil
			})
		}
		for _, p := range topology.POPs {
			await(t, region+" at "+p.POP, func() bool { return answers(p) == "as "+region+" knows it" })
			a := b.at(p).post(t, "/api/orders", newOrder{b.at(p).customer(t), 100}, "Origin", p.URL, "Sec-Fetch-Site", "same-origin")
			if a.status != http.StatusCreated {
				t.Errorf("an order at %s while in %s: %s", p.POP, region, a)
			}
		}
	}
}

// liveIn is another process of the region with that number.
func liveIn(t *testing.T, i int) *directory.Live {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: topology.Regions[i].Database, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	file, err := directory.New(directory.File{}, make([]byte, directory.MinKey))
	if err != nil {
		t.Fatal(err)
	}
	name := topology.Regions[i].Region
	live, err := directory.Open(t.Context(), file, name, pool, feed.NewOutbox(name, 24*time.Hour), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return live
}
