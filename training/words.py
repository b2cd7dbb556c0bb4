"""The words the samples are made of. Plain data; the order matters, because seeds draw by index."""

from __future__ import annotations


def listed(text: str, gap: str = " ") -> list[str]:
    """The words or phrases of a text."""
    return text.split(gap)


ITEMS = listed(
    "Milk Bread Butter Cheese Eggs Flour Sugar Salt Rice Pasta Apples Pears Bananas Oranges Lemons Grapes Tomatoes "
    "Potatoes Onions Carrots Spinach Garlic Mushrooms Peppers Cucumber Lettuce Beans Lentils Soup Yogurt Cream Honey "
    "Jam Tea Coffee Juice Water Soda Chocolate Biscuits Cake Muffin Bagel Croissant Sandwich Salad Pizza Noodles Tofu "
    "Salmon Tuna Chicken Ham Sausage Nuts Almonds Raisins Oats Cereal Vinegar Mustard Ketchup Basil Pepper Soap "
    "Shampoo Towel Candle Batteries Notebook Pencil Pen Paper Tape Glue Scissors Stamps Envelope Magazine Flowers"
)
QUALITIES = listed("Brown White Green Red Fresh Organic Large Small Sweet Dark Frozen Dried")
SHOPS = listed(
    "Corner Shop;Green Market;City Grocery;Fresh and Fair;Sunny Store;The Old Bakery;Harbour Foods;Station Kiosk;"
    "Village Market;Blue Door Cafe;Happy Basket;North Street Deli",
    ";",
)
OBJECTS = listed(
    "red blue green yellow black white orange purple silver gold north south east west spring summer autumn winter "
    "apple pear plum cherry lemon grape melon peach river lake ocean island mountain valley forest "
    "desert garden bridge "
    "castle tower harbour station market school library museum theatre hotel kitchen window door table "
    "chair lamp clock "
    "mirror carpet candle bottle basket hammer needle button pocket ticket letter parcel engine wheel anchor rocket "
    "planet comet moon star cloud thunder snow storm fire stone sand copper iron tiger lion horse rabbit eagle falcon "
    "dolphin turtle spider violin piano trumpet drum guitar paper pencil brush camera battery signal number colour "
    "price weight height width depth speed power voltage pressure temperature distance angle level floor room shelf"
)
NAMES = listed(
    "Anna Ben Carla David Elena Felix Greta Hugo Irene Jonas Karin Leo Maria Nils Olga Paul Rosa Simon Tessa Victor "
    "Wanda Yusuf Zoe Amir Chen Dina Emil Farah Ivan Kofi Lena Mina Noor Omar Priya Sara Tomas Uma"
)
CITIES = listed(
    "Paris London Berlin Madrid Rome Vienna Prague Oslo Lisbon Athens Cairo Delhi Tokyo Seoul Sydney "
    "Lima Boston Chicago "
    "Dublin Zurich"
)
DAYS = listed(
    "today;tomorrow;tonight;this evening;on Monday;on Tuesday;on Friday;on Sunday;next week;this weekend", ";"
)
ROOMS = listed("kitchen;living room;bedroom;bathroom;hall;garden;office;garage", ";")
STYLES = listed("jazz rock classical pop blues folk piano dance country metal")
LANGUAGES = listed("French German Spanish Italian Japanese Greek Polish Korean Turkish Swedish")
TIMES = listed(
    "six;seven;eight;nine;ten;noon;half past six;half past seven;a quarter to eight;five in the morning", ";"
)
PLACES = listed("the station;the airport;the museum;the harbour;the library;the market;the hotel;the hospital", ";")

# One list of wordings for each label. The last HELD_OUT_WORDINGS of a list never appear in training.
HELD_OUT_WORDINGS = 2
INTENTS: dict[str, tuple[str, ...]] = {
    "weather": (
        "what is the weather like in {city} {day}",
        "will it rain in {city} {day}",
        "is it going to be sunny {day}",
        "how warm is it in {city}",
        "show the weather forecast for {city}",
        "do I need an umbrella {day}",
        "how cold will it be {day}",
        "tell me if there is snow in {city} {day}",
        "give me the forecast for {day}",
        "what temperature will it have in {city} {day}",
        "is it windy in {city}",
        "is there going to be rain {day}",
        "what is the forecast for {city} {day}",
    ),
    "alarm": (
        "wake me at {time}",
        "set an alarm for {time}",
        "set a timer for {number} minutes",
        "wake me up {day} at {time}",
        "cancel my alarm for {time}",
        "start a timer of {number} minutes",
        "move the alarm to {time}",
        "turn off the alarm {day}",
        "snooze for {number} minutes",
        "I have to get up at {time}",
        "remove the timer",
        "I need an alarm {day} at {time}",
        "make a timer for {number} minutes",
    ),
    "music": (
        "play some {style}",
        "put on {style} music",
        "play the next song",
        "skip this track",
        "I want to hear {style} music",
        "play a {style} song for {name}",
        "stop the music",
        "start my {style} playlist",
        "shuffle the {style} playlist",
        "play the album of {name}",
        "turn the song up",
        "start a {style} song",
        "put on the next track",
    ),
    "navigation": (
        "how do I get to {place}",
        "take me to {place}",
        "show the way to {place}",
        "find a route to {city}",
        "how far is it to {place}",
        "which road leads to {city}",
        "drive me to {city}",
        "how long does it take to get to {place}",
        "show the fastest route to {place} avoiding traffic",
        "give me directions to {place}",
        "is there much traffic on the road to {city}",
        "show directions to {city}",
        "what is the fastest way to {place}",
    ),
    "lights": (
        "turn on the lights in the {room}",
        "switch off the lamp in the {room}",
        "dim the lights in the {room}",
        "make the {room} brighter",
        "turn off all the lights",
        "set the {room} lamp to {number} percent",
        "it is too dark in the {room}",
        "switch on the {room} lights",
        "make the lamp in the {room} {colour}",
        "turn the {room} lamp off",
        "set the lights to {colour}",
        "switch off the lights in the {room}",
        "dim the {room} lamp",
    ),
    "shopping": (
        "add {item} to my shopping list",
        "put {item} on the list",
        "buy {number} {item}",
        "order more {item}",
        "we are out of {item}",
        "remove {item} from the shopping list",
        "I need to buy {item}",
        "what is on my shopping list",
        "we have no {item} left",
        "order {number} {item} from the shop",
        "put {number} {item} in the basket",
        "buy more {item}",
        "add {number} {item} to the list",
    ),
    "calendar": (
        "schedule a meeting with {name} {day}",
        "what is on my calendar {day}",
        "book an appointment with {name} {day} at {time}",
        "cancel my meeting with {name}",
        "am I free {day}",
        "move the meeting with {name} to {time}",
        "when is my appointment with {name}",
        "add lunch with {name} to my calendar {day}",
        "do I have a meeting {day}",
        "plan an appointment {day} at {time}",
        "show my calendar for {day}",
        "book a meeting with {name} at {time}",
        "cancel the appointment {day}",
    ),
    "message": (
        "send a message to {name}",
        "text {name} that I am late",
        "write to {name} that I will be there {day}",
        "call {name}",
        "reply to {name} that I agree",
        "read my new messages",
        "tell {name} that I am on my way",
        "send {name} an email",
        "phone {name} {day}",
        "answer the email from {name}",
        "do I have new messages from {name}",
        "write a message to {name}",
        "send an email to {name} that I am late",
    ),
    "joke": (
        "tell me a joke",
        "make me laugh",
        "say something funny",
        "do you know a joke about a {animal}",
        "tell a funny story about a {animal}",
        "cheer me up with a joke",
        "I want to laugh",
        "have you heard a good joke",
        "entertain me with something funny",
        "another joke about a {animal}",
        "give me something to laugh about",
        "do you know something funny",
        "tell me a funny joke about a {animal}",
    ),
    "translation": (
        "translate good morning into {language}",
        "how do you say thank you in {language}",
        "what does this word mean in {language}",
        "say hello in {language}",
        "translate the letter from {name} into {language}",
        "what is {item} in {language}",
        "I need this text in {language}",
        "how do you spell {item} in {language}",
        "put the word {item} into {language}",
        "translate {item} to {language}",
        "write good night in {language}",
        "how do you say {item} in {language}",
        "what does {item} mean in {language}",
    ),
}
ANIMALS = listed("cat dog horse rabbit duck cow penguin parrot spider fish")

OPENINGS = ("", "please ", "could you ", "hey, ", "can you please ", "now ", "hello, ", "okay, ")
CLOSINGS = ("", ".", " please", "!", ", thanks", " now")

GREETINGS = listed(
    "Hello;Hi;Hello!;Hi there!;Hey;Good morning;Good morning!;Good evening;Hello there;Hey there;hello;hi;Good day;"
    "Hello, how are you?;Hi, how are you?;How are you?;Is anybody there?;Nice to meet you",
    ";",
)
WHO = listed(
    "Who are you?;What are you?;What is your name?;Tell me about yourself;Which model are you?;Hello, who are you?;"
    "Hi, who are you?;Are you a person?;Are you a robot?;Who made you?;Introduce yourself;who are you;what are you;"
    "What model is this?;Are you a large model?;Hi, what is your name?",
    ";",
)
ABILITIES = listed(
    "What can you do?;Help;Help me;help;What do you know?;How can you help me?;What are you good at?;"
    "What should I ask?;Show me what you can do;What can I ask you?;Hello, what can you do?;"
    "Can you help me?;What are you for?",
    ";",
)
THANKS = listed(
    "Thanks;Thank you;Thank you!;Thanks a lot!;Great, thank you;Bye;Goodbye;See you;Good night;Well done", ";"
)
BEYOND = listed(
    "Write a poem about {thing};Tell me a story about {thing};What is the capital of {city}?;Explain {thing} to me;"
    "Who invented the {thing}?;Why is the {thing} {colour}?;How does a {thing} work?;What is {thing}?;"
    "Write a letter to {name} about {thing};Give me a recipe with {item};Who is {name}?;Where is {city}?;"
    "What do you think about {thing}?;How old is {name}?;Sing a song;Write some code;What day is it?;"
    "Draw a {thing};Describe the {thing};Do you like {item}?;What happened in {city}?;Write about {thing};"
    "Write an essay about {thing};What does {thing} mean?;How big is {city}?;Who lives in {city}?;"
    "Summarise the history of {city};What is the best {thing}?;How do I cook {item}?;Is {item} healthy?;"
    "Why do people like {item}?;Who made the first {thing}?;How many {thing}s are in {city}?;"
    "Compare {thing} and {item};"
    "Give me advice about {thing};What should I say to {name}?;Help me with my homework about {thing};"
    "What is the meaning of {thing}?;Can you explain how a {thing} is made?;Tell me about {city};Tell me about {name};"
    "Which {thing} is older?;When was {city} founded?;Why is {name} sad?;Write a speech for {name};"
    "Invent a name for my {thing};Can you write a song about {city}?;What colour is the {thing}?;"
    "Do you know {name}?;Where does {item} come from?;What is the price of {item} in {city}?;"
    "Solve this riddle about a {thing};How far is the {thing} from {city}?;Plan a trip to {city};Review this {thing};"
    "Why is the sky blue?;Why is {city} famous?;Why was {city} founded?;Why does {name} like {city}?;"
    "Why did {name} leave?;Why are {thing}s so expensive?;Why do people go to {city}?;Who discovered the {thing}?",
    ";",
)
