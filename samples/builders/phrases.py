"""Phrase books of samples.builders.texts, one a language: `{slot}` is filled from the list of that name.

All of it was written for this project. `open`, `body` and `close` hold sentences; a topic is one thing spoken of, a
phrase in the singular, and fills `{t}` (German also `{t4}`, its accusative: topics are "nominative|accusative" there).
Predicates are words that look the same whatever the gender of what they stand with.
"""

from __future__ import annotations

Book = dict[str, list[str]]

_ENGLISH: Book = {
    "topic": [
        "the old bridge", "a paper map", "the morning bus", "the river", "a broken clock", "the night sky", "a small garden",
        "the city library", "an honest mistake", "the first snow", "a wooden chair", "the village choir", "a slow train",
        "the market hall", "a stone wall", "the harbour", "a borrowed umbrella", "the apple tree", "a bicycle wheel",
        "the kitchen table",
    ],
    "open": [
        "Let me tell you about {t}.", "What does {t} know about {idea}?", "When I was {age}, {who} showed me {t}.",
        "Have you ever looked at {t} for {time}?", "Everybody thinks they understand {t}.",
        "I have a confession. I am in love with {t}.",
        "Suppose that {t} could {do}. What would it say?", "My {kin} had only one rule about {t}.",
    ],
    "body": [
        "Most people walk past and {miss}.", "I {often} believed that {idea} was {how}.", "It took me {time} to see why.",
        "It is not {how}. It is {how}.", "You can find it {place}, if you look {manner}.",
        "First you {do}, then you {do}, and after that it is {how}.",
        "Nobody asked for it, but everybody would miss it.", "Between {idea} and {idea} there is only {t}.",
        "The whole thing weighs about as much as {thing}.", "One day {who} put {thing} on top of it, and nothing moved.",
        "So we measured it, again and again, for {time}.", "It grows a little every day, as slowly as {thing}.",
        "Some call it {idea}. I call it {idea}.", "How can something so small be so {how}?", "Think of {thing}, only bigger.",
        "{who} told me to {do}, but I did not listen.", "And then, {place}, I met {who}.", "That changes everything, does it not?",
        "We tried to {do}, to {do}, and even to {do}.", "My own {kin} still laughs about that.",
    ],
    "close": [
        "So the next time you {do}, remember {t}.", "That is all that I know about {idea}.", "Perhaps {idea} begins with {t}.",
        "And you? What would you {do}?", "Thank you for {time} of your {idea}.", "It works. It just takes {time}.",
    ],
    "idea": ["patience", "memory", "courage", "balance", "silence", "attention", "trust", "curiosity", "distance", "luck"],
    "age": ["six", "seven", "nine", "eleven", "fourteen", "twenty"],
    "who": ["my neighbour", "an engineer", "a fisherman", "our teacher", "a painter", "a stranger on the train", "the baker"],
    "kin": ["father", "mother", "aunt", "brother", "sister", "grandfather"],
    "time": ["ten minutes", "a whole week", "three years", "half an hour", "one long winter", "a moment"],
    "miss": ["notice nothing", "think of lunch", "never look up", "keep their eyes on the ground", "forget it at once"],
    "often": ["always", "never", "once", "sometimes", "secretly"],
    "how": ["simple", "heavy", "fragile", "useful", "almost boring", "beautiful", "stubborn", "patient", "loud", "wide open"],
    "place": ["behind the station", "at the edge of town", "under your feet", "up on the hill", "in every kitchen", "right there"],
    "manner": ["twice", "closely", "with your hands", "from very far away", "in the evening", "without hurry"],
    "do": ["wait", "listen", "measure everything", "carry it home", "ask a child", "turn it around", "leave it alone", "draw a circle"],
    "thing": ["a bag of flour", "three bumble bees", "a paper clip", "an empty bottle", "a sleeping cat", "five wet books",
        "a pair of boots"],
}  # fmt: skip

_GERMAN: Book = {
    "topic": [
        "die alte Brücke|die alte Brücke", "ein Apfelbaum|einen Apfelbaum", "der erste Schnee|den ersten Schnee",
        "eine Landkarte|eine Landkarte",
        "das kleine Haus|das kleine Haus", "der langsame Zug|den langsamen Zug", "die Uhr im Flur|die Uhr im Flur",
        "ein Fahrrad|ein Fahrrad",
        "der Fluss|den Fluss", "ein Küchentisch|einen Küchentisch", "die Bäckerei|die Bäckerei", "ein guter Fehler|einen guten Fehler",
    ],
    "open": [
        "Kennen Sie {t4}?", "Als ich {age} war, zeigte mir {who} {t4}.", "Was weiß {t} über {idea}?", "Heute geht es um {t4}.",
        "Ich möchte etwas über {t4} erzählen.", "Niemand spricht gern über {t4}.",
    ],
    "body": [
        "Die meisten gehen vorbei und {miss}.", "Ich glaubte {often}, {idea} sei {how}.", "Es dauerte {time}, bis ich es verstand.",
        "Es ist nicht {how}. Es ist {how}.", "Man findet es {place}, wenn man {manner} sucht.",
        "Zwischen {idea} und {idea} steht nur {t}.",
        "Das Ganze wiegt etwa so viel wie {thing}.", "Und dann traf ich {place} eine alte Freundin.",
        "Wie kann etwas so Kleines so {how} sein?",
        "Wir haben gemessen, gewartet und wieder gemessen.", "Jeden Tag wächst es ein wenig, so langsam wie {thing}.",
        "{who} sagte nur: Warten Sie ab.", "Das ändert alles, finden Sie nicht?", "Manche nennen es {idea}, ich nenne es {idea}.",
    ],
    "close": [
        "Denken Sie morgen einmal an {t4}.", "Mehr weiß ich nicht über {idea}.", "Vielleicht beginnt {idea} genau dort.",
        "Es geht. Es braucht nur {time}.", "Und Sie? Was würden Sie tun?",
    ],
    "idea": ["Geduld", "Erinnerung", "Mut", "Stille", "Vertrauen", "Neugier", "Glück", "Ordnung"],
    "age": ["sechs", "sieben", "neun", "elf", "zwanzig"],
    "who": ["mein Nachbar", "eine Malerin", "unser Lehrer", "meine Tante", "ein Fischer", "die Bäckerin"],
    "time": ["zehn Minuten", "eine ganze Woche", "drei Jahre", "einen langen Winter", "eine halbe Stunde"],
    "miss": ["merken nichts", "denken ans Essen", "sehen nie nach oben", "vergessen es sofort"],
    "often": ["immer", "nie", "früher", "heimlich", "manchmal"],
    "how": ["einfach", "schwer", "zerbrechlich", "nützlich", "beinahe langweilig", "schön", "laut", "geduldig"],
    "place": ["hinter dem Bahnhof", "am Rand der Stadt", "oben auf dem Berg", "in jeder Küche", "im Keller"],
    "manner": ["zweimal", "ganz genau", "mit den Händen", "am Abend", "ohne Eile"],
    "thing": ["ein Sack Mehl", "drei Hummeln", "eine leere Flasche", "eine schlafende Katze", "fünf nasse Bücher"],
}  # fmt: skip

_FRENCH: Book = {
    "topic": [
        "le vieux pont", "une carte en papier", "la première neige", "le train du soir", "une horloge cassée", "le petit jardin",
        "la rivière", "une chaise en bois", "le marché", "un parapluie oublié", "la table de la cuisine", "un beau problème",
    ],
    "open": [
        "Je voudrais vous parler un peu. Mon sujet, c'est {t}.", "Quand j'avais {age} ans, {who} m'a montré {t}.",
        "Avez-vous déjà regardé {t}?",
        "Personne ne remarque {t}.", "Que sait {t} sur {idea}?", "Tout commence avec {t}.",
    ],
    "body": [
        "La plupart des gens passent et {miss}.", "J'ai {often} cru que {idea} était {how}.",
        "Il m'a fallu {time} pour comprendre pourquoi.",
        "Ce n'est pas {how}. C'est {how}.", "On le trouve {place}, si on regarde {manner}.",
        "Entre {idea} et {idea}, il y a seulement {t}.",
        "Le tout pèse à peu près comme {thing}.", "Et puis, {place}, j'ai rencontré {who}.",
        "Comment une chose si petite peut-elle être si {how}?",
        "Nous avons mesuré, attendu, et mesuré encore.", "Chaque jour, cela grandit un peu.", "Imaginez {thing}, mais en plus grand.",
        "{who} m'a dit une seule phrase: attendez.", "Cela change tout, vous ne croyez pas?",
    ],
    "close": [
        "Demain matin, pensez à moi, et regardez {t}.", "Voilà tout ce que je sais.", "Peut-être que {idea} commence avec {t}.",
        "Ça marche. Il faut seulement {time}.", "Et vous, que feriez-vous?",
    ],
    "idea": ["la patience", "la mémoire", "le courage", "le silence", "la confiance", "le hasard", "la distance", "la chance"],
    "age": ["six", "sept", "neuf", "onze", "vingt"],
    "who": ["mon voisin", "ma tante", "une ingénieure", "un pêcheur", "notre professeur", "la boulangère"],
    "time": ["dix minutes", "une semaine entière", "trois ans", "une demi-heure", "tout un hiver"],
    "miss": ["ne voient rien", "pensent au repas", "oublient aussitôt", "regardent leurs pieds"],
    "often": ["toujours", "longtemps", "parfois", "souvent"],
    "how": ["simple", "fragile", "utile", "étrange", "calme", "difficile", "facile", "possible"],
    "place": ["derrière la gare", "au bord de la ville", "en haut de la colline", "dans chaque cuisine", "sous nos pieds"],
    "manner": ["deux fois", "de très près", "avec les mains", "le soir", "sans se presser"],
    "thing": ["un sac de farine", "trois abeilles", "une bouteille vide", "un chat endormi", "cinq livres mouillés"],
}  # fmt: skip

_SPANISH: Book = {
    "topic": [
        "el puente viejo", "un mapa de papel", "la primera nieve", "el tren lento", "un reloj roto", "el jardín pequeño", "el río",
        "una silla de madera", "el mercado", "la mesa de la cocina", "un buen error", "el manzano",
    ],
    "open": [
        "Hoy quiero hablar sobre {t}.", "Cuando yo tenía {age} años, {who} me enseñó {t}.", "¿Qué sabe {t} sobre {idea}?",
        "Nadie mira {t}.", "Todo empezó con {t}.", "¿Han observado alguna vez {t}?",
    ],
    "body": [
        "La mayoría pasa por delante y {miss}.", "{often} creí que {idea} era algo {how}.", "Tardé {time} en entender por qué.",
        "No es {how}. Es {how}.", "Se encuentra {place}, si uno mira {manner}.", "Entre {idea} y {idea} está solamente {t}.",
        "Todo junto pesa más o menos como {thing}.", "Y entonces, {place}, apareció {who}.", "¿Cómo puede algo pequeño ser tan {how}?",
        "Medimos, esperamos, y volvimos a medir.", "Cada día crece un poco, despacio.", "Imaginen {thing}, pero más grande.",
        "{who} me dijo una palabra: espera.", "Eso cambia todo, ¿no les parece?",
    ],
    "close": [
        "Mañana, por favor, miren {t}.", "Eso es todo lo que sé sobre {idea}.", "Quizás {idea} empieza con {t}.",
        "Funciona. Solamente hace falta {time}.", "¿Y ustedes, qué harían?",
    ],
    "idea": ["la paciencia", "la memoria", "el silencio", "la confianza", "la suerte", "la distancia", "el equilibrio"],
    "age": ["seis", "siete", "nueve", "once", "veinte"],
    "who": ["mi vecina", "un ingeniero", "un pescador", "nuestra maestra", "mi hermano", "el panadero"],
    "time": ["diez minutos", "una semana entera", "tres años", "media hora", "todo un invierno"],
    "miss": ["no ve nada", "piensa en la comida", "lo olvida enseguida", "mira el suelo"],
    "often": ["siempre", "a veces", "durante años", "en secreto"],
    "how": ["simple", "frágil", "útil", "grande", "importante", "invisible", "amable", "posible"],
    "place": ["detrás de la estación", "arriba en la colina", "en cada cocina", "bajo nuestros pies", "al borde del pueblo"],
    "manner": ["dos veces", "de cerca", "con las manos", "por la tarde", "sin prisa"],
    "thing": ["un saco de harina", "tres abejas", "una botella vacía", "un gato dormido", "cinco libros mojados"],
}  # fmt: skip

_ITALIAN: Book = {
    "topic": [
        "il vecchio ponte", "una mappa di carta", "la prima neve", "un treno lento", "un orologio rotto", "il piccolo giardino",
        "il fiume", "una sedia di legno", "il mercato", "la tavola della cucina", "un bravo pasticcere", "il melo",
    ],
    "open": [
        "Vorrei raccontarvi una storia. Comincia con {t}.", "Quando avevo {age} anni, {who} mi mostrò {t}.",
        "Che cosa sa {t} sopra ogni altra cosa?",
        "Nessuno guarda {t}.", "Tutto è cominciato con {t}.", "Avete mai osservato {t}?",
    ],
    "body": [
        "Quasi tutti passano e {miss}.", "{often} credevo che {idea} fosse una cosa {how}.", "Mi ci è voluto molto per capire perché.",
        "Non è {how}. È {how}.", "Si trova {place}, se si guarda {manner}.", "Tra {idea} e {idea} c'è soltanto {t}.",
        "Il tutto pesa più o meno come {thing}.", "E poi, {place}, ho incontrato {who}.",
        "Come può una cosa piccola essere tanto {how}?",
        "Abbiamo misurato, aspettato, e misurato ancora.", "Ogni giorno cresce un poco, piano piano.",
        "Immaginate {thing}, ma più grande.",
        "{who} mi disse una parola sola: aspetta.", "Questo cambia tutto, non vi pare?",
    ],
    "close": [
        "Domani, per favore, guardate {t}.", "Questo è tutto quello che so.", "Forse {idea} comincia con {t}.",
        "Funziona. Ci vuole soltanto {time}.", "E voi, che cosa fareste?",
    ],
    "idea": ["la pazienza", "la memoria", "il silenzio", "la fiducia", "la fortuna", "la distanza", "il coraggio"],
    "age": ["sei", "sette", "nove", "undici", "venti"],
    "who": ["mia zia", "un pescatore", "la maestra", "mio fratello", "il fornaio", "un pittore"],
    "time": ["mezz'ora", "una settimana", "un lungo inverno", "un momento"],
    "miss": ["non vedono niente", "pensano al pranzo", "dimenticano subito", "guardano per terra"],
    "often": ["Sempre", "A volte", "Per anni", "In segreto"],
    "how": ["semplice", "fragile", "utile", "grande", "importante", "invisibile", "possibile", "gentile"],
    "place": ["dietro la stazione", "in cima alla collina", "in ogni cucina", "sotto i nostri piedi", "ai bordi del paese"],
    "manner": ["due volte", "da vicino", "con le mani", "di sera", "senza fretta"],
    "thing": ["un sacco di farina", "tre api", "una bottiglia vuota", "un gatto che dorme", "cinque libri bagnati"],
}  # fmt: skip

_PORTUGUESE: Book = {
    "topic": [
        "a ponte velha", "um mapa de papel", "a primeira chuva", "o trem lento", "um relógio quebrado", "o pequeno jardim", "o rio",
        "uma cadeira de madeira", "o mercado", "a mesa da cozinha", "um bom erro", "a biblioteca",
    ],
    "open": [
        "Hoje quero falar sobre {t}.", "Quando eu tinha {age} anos, {who} me mostrou {t}.", "O que sabe {t} sobre {idea}?",
        "Ninguém olha para {t}.", "Tudo começou com {t}.", "Vocês já observaram {t}?",
    ],
    "body": [
        "A maioria passa em frente e {miss}.", "{often} pensei que {idea} era algo {how}.", "Levei {time} para entender por quê.",
        "Não é {how}. É {how}.", "Isso se encontra {place}, se a gente olha {manner}.", "Entre {idea} e {idea} existe apenas {t}.",
        "Tudo junto pesa mais ou menos como {thing}.", "E então, {place}, apareceu {who}.",
        "Como pode uma coisa pequena ser tão {how}?",
        "Nós medimos, esperamos, e medimos outra vez.", "Cada dia cresce um pouco, devagar.", "Imaginem {thing}, mas bem maior.",
        "{who} me disse uma palavra: espere.", "Isso muda tudo, não acham?",
    ],
    "close": [
        "Amanhã, por favor, olhem para {t}.", "Isso é tudo o que eu sei sobre {idea}.", "Talvez {idea} comece com {t}.",
        "Funciona. Só precisa de {time}.", "E vocês, o que fariam?",
    ],
    "idea": ["a paciência", "a memória", "o silêncio", "a confiança", "a sorte", "a distância", "o equilíbrio"],
    "age": ["seis", "sete", "nove", "onze", "vinte"],
    "who": ["minha vizinha", "um engenheiro", "um pescador", "nossa professora", "meu irmão", "o padeiro"],
    "time": ["dez minutos", "uma semana inteira", "três anos", "meia hora", "um inverno inteiro"],
    "miss": ["não vê nada", "pensa no almoço", "esquece logo", "olha para o chão"],
    "often": ["Sempre", "Às vezes", "Durante anos", "Em segredo"],
    "how": ["simples", "frágil", "útil", "grande", "importante", "invisível", "possível", "gentil"],
    "place": ["atrás da estação", "no alto do morro", "em cada cozinha", "debaixo dos nossos pés", "na beira da cidade"],
    "manner": ["duas vezes", "de perto", "com as mãos", "de tarde", "sem pressa"],
    "thing": ["um saco de farinha", "três abelhas", "uma garrafa vazia", "um gato dormindo", "cinco livros molhados"],
}  # fmt: skip

BOOKS: dict[str, Book] = {"en": _ENGLISH, "de": _GERMAN, "fr": _FRENCH, "es": _SPANISH, "it": _ITALIAN, "pt": _PORTUGUESE}
