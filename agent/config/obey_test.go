package config

import (
	"encoding/json"
	"slices"
	"testing"
)

// TestKeySpecIsWhole: the schema uses no word that obey does not know.
func TestKeySpecIsWhole(t *testing.T) {
	known := []string{
		"type", "properties", "required", "items", "minItems", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum",
		"$schema", "title", "description", "examples", "default", // these refuse nothing
	}
	var walk func(path string, s map[string]any)
	walk = func(path string, s map[string]any) {
		for word, said := range s {
			switch word {
			case "properties":
				for name, sub := range said.(map[string]any) {
					walk(join(path, name), sub.(map[string]any))
				}
			case "items":
				walk(path+"[]", said.(map[string]any))
			case "additionalProperties":
				if said != false {
					t.Errorf("%s: additionalProperties is %v", path, said)
				}
			default:
				if !slices.Contains(known, word) {
					t.Errorf("%s: obey does not know %q", path, word)
				}
			}
		}
		if s["type"] == "object" && s["additionalProperties"] != false {
			t.Errorf("%s: more keys are allowed than it has", path)
		}
	}
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	walk("", root)
}
