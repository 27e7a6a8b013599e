package words

import "testing"

func TestHarmless(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"words", "Session of alice@example.com ends: 5 min.", "Session of alice@example.com ends: 5 min."},
		{"powershell", "$(calc) `whoami` \"@\n$x", "(calc) whoami @\nx"},
		{"smart_quotes", "“@ ‘x’", "x"},
		{"xml", "]]></text><text>&amp;", "/text text amp;"},
		{"option", "--help", "help"},
		{"option_in_second_line", "a\n-x", "a\nx"},
		{"script", `" with title "x\`, "with title x"},
		{"other_scripts", "Größe 東京", "Größe 東京"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Harmless(tt.in); got != tt.want {
				t.Errorf("Harmless(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestWithoutTags(t *testing.T) {
	for in, want := range map[string]string{
		"<b>bold</b> <a href='x'>link</a>": "bold link", "a < b and c > d": "a < b and c > d", "<3": "<3",
		`<<b>a href="http://evil">click<<b>/a>`: "click", "<<<i>b>i>deep<</<i>i>/b>": "deep", "<<b>3 and <<b> 4": "<3 and < 4",
	} {
		if got := WithoutTags(in); got != want {
			t.Errorf("WithoutTags(%q) = %q, want %q", in, got, want)
		}
	}
}
