package secrets

import (
	"context"
	"encoding/base32"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"berth/internal/wake"
)

const (
	minSeed = 10 // bytes; RFC 4226 wants 16, and some services hand out fewer
	maxSeed = 128
	// stillValid is how long a code must last for it to be typed, to travel
	// and to be checked.
	stillValid = 4 * time.Second
)

// Seed is the secret from which one-time codes are computed. It prints as
// nothing.
type Seed struct {
	secret    string // base32, without padding
	period    uint64 // seconds
	digits    otp.Digits
	algorithm otp.Algorithm
}

// ParseSeed reads a seed as services show it: in base32, in groups or not, or
// as the otpauth:// address in a QR code. Its errors are *InvalidError and do
// not repeat what was given.
func ParseSeed(text string) (Seed, error) {
	text = strings.TrimSpace(text)
	s := Seed{secret: text, period: 30, digits: otp.DigitsSix, algorithm: otp.AlgorithmSHA1}
	if strings.Contains(text, "://") {
		if err := s.readURI(text); err != nil {
			return Seed{}, err
		}
	}
	s.secret = strings.Join(strings.Fields(s.secret), "") // the decoder would skip line ends
	s.secret = strings.ToUpper(strings.NewReplacer("-", "", "=", "").Replace(s.secret))
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(s.secret)
	switch {
	case s.secret == "":
		return Seed{}, invalid("the seed of the one-time codes is empty")
	case len(s.secret) <= 8 && strings.Trim(s.secret, "0123456789") == "":
		return Seed{}, invalid("that is a one-time code; wanted is the seed that the authenticator app was set up with")
	case err != nil:
		return Seed{}, invalid("that is no seed of one-time codes: it should be base32, the letters A to Z and the digits 2 to 7, " +
			"or an otpauth:// address")
	case len(raw) < minSeed, strings.Contains("136", strconv.Itoa(len(s.secret)%8)): // no bytes come out as so many letters
		return Seed{}, invalid("that is no seed of one-time codes: it is too short, a part of it may be missing")
	case len(raw) > maxSeed:
		return Seed{}, invalid("that is no seed of one-time codes: it is too long")
	}
	return s, nil
}

// readURI reads an otpauth:// address. The library would take what it does not
// understand for the default, and compute codes that are wrong.
func (s *Seed) readURI(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "otpauth" {
		return invalid("that is no seed of one-time codes: its address should begin with otpauth://totp/")
	}
	if u.Host != "totp" {
		return invalid("only time-based codes are supported, otpauth://totp/, and this seed is for others")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return invalid("the otpauth:// address is damaged")
	}
	s.secret = q.Get("secret")
	switch q.Get("digits") {
	case "", "6":
	case "7":
		s.digits = 7
	case "8":
		s.digits = otp.DigitsEight
	default:
		return invalid("the otpauth:// address asks for codes of a length that is not supported: 6, 7 and 8 digits are")
	}
	if p := q.Get("period"); p != "" {
		if s.period, err = strconv.ParseUint(p, 10, 16); err != nil || s.period < 10 || s.period > 300 {
			return invalid("the otpauth:// address has a period that is not supported: 10 to 300 seconds are")
		}
	}
	switch strings.ToUpper(q.Get("algorithm")) {
	case "", "SHA1":
	case "SHA256":
		s.algorithm = otp.AlgorithmSHA256
	case "SHA512":
		s.algorithm = otp.AlgorithmSHA512
	default:
		return invalid("the otpauth:// address asks for an algorithm that is not supported: SHA1, SHA256 and SHA512 are")
	}
	if q.Get("encoder") != "" {
		return invalid("the otpauth:// address asks for codes that are not digits, which Teleport does not take")
	}
	return nil
}

// uri returns the seed as ParseSeed reads it.
func (s Seed) uri() string {
	return fmt.Sprintf("otpauth://totp/berth?secret=%s&digits=%d&period=%d&algorithm=%s", s.secret, s.digits, s.period, s.algorithm)
}

// CodeAt returns the code that is valid at a moment, and until when it is.
func (s Seed) CodeAt(now time.Time) (code Secret, until time.Time, err error) {
	text, err := totp.GenerateCodeCustom(s.secret, now, totp.ValidateOpts{
		Period: uint(s.period), Digits: s.digits, Algorithm: s.algorithm,
	})
	if err != nil {
		return Secret{}, time.Time{}, invalid("no code could be computed from the seed")
	}
	period := int64(s.period)
	return NewSecret(text), time.Unix((now.Unix()/period+1)*period, 0), nil
}

// Gives reports whether a code is the seed's at a moment, or a period off: the auth
// service takes those too.
func (s Seed) Gives(code string, at time.Time) bool {
	period := time.Duration(s.period) * time.Second
	for _, off := range []time.Duration{-period, 0, period} {
		if own, _, err := s.CodeAt(at.Add(off)); err == nil && own.Reveal() == code {
			return true
		}
	}
	return false
}

// Fresh returns a code that does not expire before it is used: it waits for the
// next one when the current one is about to. Teleport takes each code once.
func (s Seed) Fresh(ctx context.Context) (Secret, error) {
	now := time.Now()
	code, until, err := s.CodeAt(now)
	if err != nil || until.Sub(now) >= stillValid {
		return code, err
	}
	if !wake.Sleep(ctx, until.Sub(now)) {
		return Secret{}, ctx.Err()
	}
	code, _, err = s.CodeAt(time.Now())
	return code, err
}

// String hides the seed.
func (Seed) String() string { return redacted }

// Format hides the seed from every verb of fmt.
func (Seed) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) } // the printer reports what fails

// LogValue hides the seed from logs.
func (Seed) LogValue() slog.Value { return slog.StringValue(redacted) }
