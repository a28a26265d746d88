package edge

import (
	"strings"
	"testing"
)

func cookieApp(secrets ...string) *App {
	a := new(App)
	a.load.Do(func() {})
	for _, s := range secrets {
		a.cookieSecrets = append(a.cookieSecrets, []byte(s))
	}
	return a
}

const (
	newSecret = "the new secret, of 32 bytes or more"
	oldSecret = "the old secret, of 32 bytes or more"
)

func TestCookie_opensForItsPurposeAlone(t *testing.T) {
	t.Parallel()
	a := cookieApp(newSecret, oldSecret)
	value, err := a.SignCookie("purpose", "what.it=says")
	if err != nil {
		t.Fatal(err)
	}
	if payload, ok := a.OpenCookie("purpose", value); !ok || payload != "what.it=says" {
		t.Errorf("opened as %q, %v", payload, ok)
	}
	if payload, ok := a.OpenCookie("another", value); ok || payload != "" {
		t.Errorf("another purpose opened it as %q", payload)
	}
}

func TestCookie_anOldSecretIsBelievedAndDoesNotSign(t *testing.T) {
	t.Parallel()
	before, between, after := cookieApp(oldSecret), cookieApp(newSecret, oldSecret), cookieApp(newSecret)
	old, _ := before.SignCookie("p", "x")
	if _, ok := between.OpenCookie("p", old); !ok {
		t.Error("the old secret's cookie does not open while it is listed")
	}
	if _, ok := after.OpenCookie("p", old); ok {
		t.Error("it opens when it is listed no more")
	}
	fresh, _ := between.SignCookie("p", "x")
	if _, ok := after.OpenCookie("p", fresh); !ok {
		t.Error("the first secret did not sign")
	}
}

func TestCookie_withoutSecretNothingOpens(t *testing.T) {
	t.Parallel()
	signed, _ := cookieApp("").SignCookie("p", "x")
	a := cookieApp()
	if _, ok := a.OpenCookie("p", signed); ok {
		t.Error("opened without a secret")
	}
	if _, err := a.SignCookie("p", "x"); err == nil {
		t.Error("signed without a secret")
	}
}

func TestCookie_shortSecretIsRefused(t *testing.T) {
	t.Setenv("GATEHOUSE_TEST_COOKIE_SECRET", "short")
	a := &App{CookieSecretEnv: "GATEHOUSE_TEST_COOKIE_SECRET"}
	err := a.loadCookieSecrets()
	if err == nil || !strings.Contains(err.Error(), "cookie_secret_env GATEHOUSE_TEST_COOKIE_SECRET: 5 bytes") {
		t.Errorf("got %v", err)
	}
}

// FuzzOpenCookie holds that what opens is what was signed, byte for byte.
func FuzzOpenCookie(f *testing.F) {
	a := cookieApp(newSecret, oldSecret)
	good, _ := a.SignCookie("p", "id")
	for _, seed := range []string{good, "", ".", "id.", "id." + strings.Repeat("A", 43), good + "=", good + "\n", "x" + good, strings.ToUpper(good)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if payload, ok := a.OpenCookie("p", value); ok && (value != good || payload != "id") {
			t.Errorf("%q opens as %q", value, payload)
		}
	})
}
