package secrets

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The seeds and codes of RFC 6238, appendix B.
const (
	rfcSeed    = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	rfcSeed256 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA"
)

func TestCodeAt(t *testing.T) {
	tests := []struct {
		name, seed string
		at         int64
		want       string
		until      int64
	}{
		{"base32", rfcSeed, 59, "287082", 60},
		{"lower_case_in_groups", "gezd gnbv gy3t qojq-gezd gnbv gy3t qojq==\n", 59, "287082", 60},
		{"eight_digits", "otpauth://totp/x:alice?secret=" + rfcSeed + "&digits=8", 1111111109, "07081804", 1111111110},
		{"sha256", "otpauth://totp/x:alice?secret=" + rfcSeed256 + "&digits=8&algorithm=SHA256", 59, "46119246", 60},
		{"period", "otpauth://totp/x?secret=" + rfcSeed + "&period=60", 119, "287082", 120},
		{"issuer", "otpauth://totp/Teleport:alice@example.com?secret=" + rfcSeed + "&issuer=Teleport&algorithm=SHA1&digits=6&period=30", 59, "287082", 60},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseSeed(tt.seed)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []Seed{s, again(t, s)} {
				code, until, err := s.CodeAt(time.Unix(tt.at, 0))
				if err != nil || code.Reveal() != tt.want || until.Unix() != tt.until {
					t.Errorf("CodeAt(%d) = %s until %d, %v; want %s until %d", tt.at, code.Reveal(), until.Unix(), err, tt.want, tt.until)
				}
			}
		})
	}
}

func TestGives(t *testing.T) {
	s, err := ParseSeed(rfcSeed)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int64]bool{29: true, 0: true, 59: true, 89: true, 90: false, 149: false} { // 287082 is of 30 to 59
		if got := s.Gives("287082", time.Unix(at, 0)); got != want {
			t.Errorf("at %d the code of 30 to 59 is the seed's: %v, want %v", at, got, want)
		}
	}
	if s.Gives("", time.Unix(59, 0)) {
		t.Error("no code is the seed's")
	}
}

// again is the seed after it was kept.
func again(t *testing.T, s Seed) Seed {
	t.Helper()
	kept, err := ParseSeed(s.uri())
	if err != nil || kept != s {
		t.Errorf("a seed that was kept is another one: %v", err)
	}
	return kept
}

func TestNonsenseIsNoSeed(t *testing.T) {
	tests := []struct{ name, text, says string }{
		{"empty", "", "empty"},
		{"blanks", " - ", "empty"},
		{"a_code", "234567", "that is a one-time code"},
		{"a_password", "hunter2!", "base32"},
		{"too_short", "GEZDGNBV", "too short"},
		{"a_letter_missing", rfcSeed[:17], "a part of it may be missing"},
		{"two_letters_missing", rfcSeed[:30], "a part of it may be missing"},
		{"too_long", strings.Repeat("GEZDGNBV", 26), "too long"},
		{"wrong_digits", "GEZDGNBVGY3TQ0J1", "base32"},
		{"another_address", "https://example.com/?secret=" + rfcSeed, "otpauth://totp/"},
		{"counter_based", "otpauth://hotp/x?secret=" + rfcSeed + "&counter=1", "time-based"},
		{"no_secret", "otpauth://totp/x?issuer=y", "empty"},
		{"odd_digits", "otpauth://totp/x?digits=9&secret=" + rfcSeed, "6, 7 and 8"},
		{"odd_period", "otpauth://totp/x?period=0&secret=" + rfcSeed, "10 to 300"},
		{"no_period", "otpauth://totp/x?period=soon&secret=" + rfcSeed, "10 to 300"},
		{"md5", "otpauth://totp/x?algorithm=MD5&secret=" + rfcSeed, "SHA1"},
		{"steam", "otpauth://totp/x?encoder=steam&secret=" + rfcSeed, "not digits"},
		{"damaged", "otpauth://totp/x?secret=%zz", "damaged"},
		{"no_address", "otpauth://[::1/x?secret=" + rfcSeed, "otpauth://totp/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseSeed(tt.text)
			var refused *InvalidError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("ParseSeed() = %v, want an InvalidError that says %q", err, tt.says)
			}
			if secret := strings.TrimSpace(tt.text); len(secret) > 5 && strings.Contains(err.Error(), secret) {
				t.Errorf("the error repeats what was given: %v", err)
			}
		})
	}
}

func TestFresh(t *testing.T) {
	seed, err := ParseSeed(rfcSeed)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Now().Truncate(30 * time.Second).Add(50 * time.Second))) // 10 s to the end
		now := time.Now()
		code, err := seed.Fresh(t.Context())
		if want, _, _ := seed.CodeAt(now); err != nil || code != want || !time.Now().Equal(now) {
			t.Errorf("Fresh() with 10 s to go: %v, waited %v; want the current code at once", err, time.Since(now))
		}
		time.Sleep(8 * time.Second)
		now = time.Now()
		code, err = seed.Fresh(t.Context())
		if want, _, _ := seed.CodeAt(now.Add(2 * time.Second)); err != nil || code != want || time.Since(now) != 2*time.Second {
			t.Errorf("Fresh() with 2 s to go: %v, waited %v; want the next code after 2s", err, time.Since(now))
		}
		time.Sleep(28 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := seed.Fresh(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Fresh() = %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

func FuzzParseSeed(f *testing.F) {
	f.Add(rfcSeed)
	f.Add("otpauth://totp/x:alice?secret=" + rfcSeed + "&digits=8&period=60&algorithm=SHA512")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSeed(text)
		if err != nil {
			return
		}
		again(t, s)
		code, until, err := s.CodeAt(time.Unix(1<<30, 0))
		if err != nil || len(code.Reveal()) < 6 || until.Unix() <= 1<<30 {
			t.Errorf("CodeAt() = a code of %d digits until %v, %v", len(code.Reveal()), until, err)
		}
	})
}
