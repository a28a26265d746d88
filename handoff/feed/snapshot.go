package feed

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// snapshot is the state as it is kept.
type snapshot struct {
	Revocations []Revocation         `json:"revocations"`
	Heard       map[string]time.Time `json:"heard"`
	Tenants     []said[Tenant]       `json:"tenants,omitempty"`
	Definitions []said[Definition]   `json:"definitions,omitempty"`
	Values      []said[KV]           `json:"values,omitempty"`
	Purges      []said[Purge]        `json:"purges,omitempty"`
	Floor       Sequence             `json:"floor,omitzero"`
	// Missed are the tables that are not complete.
	Missed []string `json:"missed,omitempty"`
}

// said is a message and who published it.
type said[M Message] struct {
	Region  string `json:"region"`
	Message M      `json:"message"`
}

// MarshalJSON writes the state as the fewest messages that come to it.
func (s *State) MarshalJSON() ([]byte, error) {
	kept := snapshot{Revocations: make([]Revocation, 0, s.Len()), Heard: s.regions, Floor: s.floor, Missed: s.Incomplete()}
	for key, expires := range s.sessions {
		kept.Revocations = append(kept.Revocations, Revocation{Issuer: key.issuer, Session: key.id, At: 1, Expires: expires})
	}
	for key, u := range s.users {
		for _, c := range u.cuts {
			if c.at != 0 {
				kept.Revocations = append(kept.Revocations, Revocation{Issuer: key.issuer, Subject: key.id, At: c.at, Except: c.except, Expires: u.expires})
			}
		}
	}
	for tenant, m := range s.tenants {
		kept.Revocations = append(kept.Revocations, Revocation{Tenant: tenant, At: m.at, Expires: m.expires})
	}
	for tenant, e := range s.homes.entries {
		kept.Tenants = append(kept.Tenants, said[Tenant]{e.region, Tenant{tenant, e.value.region, TenantState(e.value.state), e.version}})
	}
	for k, e := range s.definitions.entries {
		d := Definition{Sequence: Sequence(e.version), Kind: k.kind, Name: k.name, Expires: e.expires}
		if !e.gone {
			d.Body = jsontext.Value(e.value)
		}
		kept.Definitions = append(kept.Definitions, said[Definition]{e.region, d})
	}
	for k, e := range s.values.entries {
		kept.Values = append(kept.Values, said[KV]{e.region, KV{Sequence(e.version), k.bucket, k.tenant, k.key, e.value, e.expires}})
	}
	for k, e := range s.purges.entries {
		kept.Purges = append(kept.Purges, said[Purge]{e.region, k.purge(e)})
	}
	return json.Marshal(kept)
}

// UnmarshalJSON adds what was kept to the state, which [NewState] has made. What
// no message could have said is an error.
func (s *State) UnmarshalJSON(document []byte) error {
	var kept snapshot
	if err := json.Unmarshal(document, &kept, json.RejectUnknownMembers(true)); err != nil {
		return err
	}
	for _, r := range kept.Revocations {
		if _, err := s.revoke(r, 0); err != nil {
			return err
		}
	}
	for region, at := range kept.Heard {
		s.hear(region, at, at)
	}
	s.floor = max(s.floor, kept.Floor)
	err := placeAll(s, kept.Tenants)
	if err == nil {
		err = placeAll(s, kept.Definitions)
	}
	if err == nil {
		err = placeAll(s, kept.Values)
	}
	if err == nil {
		err = placeAll(s, kept.Purges)
	}
	for _, table := range kept.Missed {
		switch table {
		case TableTenants:
			s.homes.missed = true
		case TableDefinitions:
			s.definitions.missed = true
		case TableValues:
			s.values.missed = true
		}
	}
	return err
}

func placeAll[M Message](s *State, all []said[M]) error {
	for _, one := range all {
		if err := one.Message.check(); err != nil {
			return fmt.Errorf("%T: %w", one.Message, err)
		}
		// Without room, by smaller limits than before, the state is incomplete.
		_, _ = s.place(one.Region, one.Message, 0)
	}
	return nil
}
